"""Checkpoints that are whole or not listed: Orbax writes them, a manifest seals them.

A step is written to `FOLDER/STEP` while training goes on. It counts from the moment
its manifest is in place, which comes after all else is on the disk, so `durable_step`
is never a hope. Restoring holds every byte against its digest.

Retention is ours and not that of Orbax's manager, which deletes in place: killed there,
it goes on listing a step that is half gone.
"""

import pathlib
import re
import shutil
import threading
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from core.exits import STORAGE, Stop
from core.registry import Entry, Range
from train import leaves, manifest
from train.shelf import Shelf, more_is_better

BEST = "val_loss"

_ITEM = "state"  # Orbax's name for what is saved
_NO_SPACE = re.compile("RESOURCE_EXHAUSTED|No space|too large|[Qq]uota")


class Checkpoints:
    """The checkpoints of one run; a context that waits for the last save at its end.

    One save is in flight at most. What goes wrong in it is raised by the next call, or
    by the end of the context. The newest `keep` steps stay, and the best one by the
    score named `best`. Opened `read_only`, nothing in the folder is touched. Of several
    processes all make the same calls; the first writes the manifests, on a disk that
    all of them read.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        *,
        every_steps: int,
        keep: int = 2,
        best: str = BEST,
        read_only: bool = False,
    ):
        self._folder = pathlib.Path(folder).absolute()
        self._every_steps, self._keep, self._best = every_steps, keep, best
        self._shelf = Shelf(self._folder, best)
        self._read_only = read_only
        self._first = jax.process_index() == 0
        self._thread: threading.Thread | None = None
        self._error: Stop | None = None
        self._last: int | None = None
        self._has_room = False
        if not read_only and self._first:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._shelf.clean()
        if read_only and not self._folder.is_dir():
            raise FileNotFoundError(f"{self._folder} holds no checkpoint.")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
            return
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:  # and what ends the run is not to be hidden by it
            logging.error("%s", self._error)

    @property
    def steps(self) -> list[int]:
        """All durable steps, the newest last."""
        return sorted(self._shelf.listed())

    @property
    def durable_step(self) -> int | None:
        """The newest step that a restart would find."""
        return max(self._shelf.listed(), default=None)

    @property
    def best_step(self) -> int | None:
        """The durable step of the best score; of equals the newest."""
        return next(iter(self._shelf.ranked()), None)

    @property
    def started(self) -> bool:
        """Whether there is a checkpoint, whole or damaged: a run not to begin anew."""
        return bool(self._shelf.sealed())

    def due(self, step: int) -> bool:
        """Whether the plan is to save after this step."""
        return step % self._every_steps == 0

    def preflight(self, state: PyTree) -> None:
        """Ends the run now where the disk would end it later.

        Raises:
          Stop: there is no room for `keep`, the best and the one being written.
        """
        needed = (self._keep + 2) * sum(x.nbytes for x in jax.tree.leaves(state))
        room = self._shelf.room() if self._first else needed
        error = None
        if room < needed:
            error = Stop(
                STORAGE,
                f"{self._folder} has room for {room / 1e6:.0f} MB of checkpoints, and "
                f"checkpoint.keep={self._keep} needs {needed / 1e6:.0f} MB.",
            )
        _raise_everywhere(error)
        self._has_room = True

    def save(
        self,
        step: int,
        state: PyTree,
        scores: Mapping[str, float],
        fingerprint: Mapping[str, str | int],
    ) -> None:
        """Begins to save; a step that is durable already stays as it is.

        `state` may be donated as soon as this returns: Orbax has copied it to the host
        then. (On a CPU it holds a view, and the runtime does not give a buffer away
        that is viewed.)

        Raises:
          Stop: the save before this one failed, or this one cannot begin.
        """
        assert not self._read_only
        self.wait()
        if step in self._shelf.listed():
            return
        if not self._has_room:
            self.preflight(state)
        self._last = step
        found = leaves.leaves_of(state)
        facts = {
            "step": step,
            "scores": {name: float(score) for name, score in scores.items()},
            "fingerprint": dict(fingerprint),
            "leaves": leaves.describe(found),
        }
        try:
            if self._first:
                self._shelf.drop(step)
            with jax.transfer_guard("allow"):
                finite = leaves.finite(found)
                path, tree = str(self._shelf.at(step)), leaves.nested(found)
                response = ocp.save_async(path, tree, checkpointable_name=_ITEM)
        except Exception as error:
            raise self._failure(step, error) from error
        self._thread = threading.Thread(
            target=self._commit, args=(response, facts, finite), name="checkpoint"
        )
        self._thread.start()

    def wait(self) -> None:
        """Until no save is in flight.

        Raises:
          Stop: it failed, here or in another process.
        """
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        _raise_everywhere(error)

    def close(self) -> None:
        """Waits for the last save.

        Raises:
          Stop: it is not durable.
        """
        self.wait()
        last, self._last = self._last, None
        if last is not None and last not in self._shelf.listed():
            raise Stop(STORAGE, f"The checkpoint of step {last} is not durable.")

    def restore(
        self, abstract_state: PyTree, step: str | int = "latest"
    ) -> tuple[int, PyTree, manifest.Manifest]:
        """The state of `step` (`latest`, `best` or a number), and its manifest.

        Leaves of `abstract_state` are `jax.ShapeDtypeStruct`s with shardings, those of
        now and not those of then. Where a checkpoint is damaged the next one is taken,
        with one warning; a number means that step or none.

        Raises:
          FileNotFoundError: there is no such checkpoint.
          ValueError: it holds another tree; names a leaf.
          Stop: all are damaged.
        """
        return self._restore(abstract_state, step, "/")

    def restore_params(self, abstract_params: PyTree, step: str | int) -> PyTree:
        """Of the state of `step` only the parameters; else as `restore`."""
        tree = {"params": abstract_params}
        return self._restore(tree, step, "/params/")[1]["params"]

    def _commit(self, response: Any, facts: dict, finite: dict) -> None:
        """Makes durable what is in flight. Runs in the thread, and keeps its error."""
        step = facts["step"]
        try:
            response.result()
            fine = jax.device_get(finite)
            facts["not_finite"] = [name for name in fine if not fine[name]]
            if self._first:
                manifest.seal(self._shelf.at(step), **facts)
                self._shelf.damaged.discard(step)
                self._shelf.retain(self._keep)
        except Exception as error:
            self._error = self._failure(step, error)

    def _failure(self, step: int, error: Exception) -> Stop:
        """What to tell of `error`, after giving back the space of the broken step."""
        if self._first and step not in self._shelf.listed():
            self._shelf.discard(step)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:90]
        if _NO_SPACE.search(str(error)):
            free = shutil.disk_usage(self._folder).free
            reason = f"no space left ({free / 1e6:.0f} MB are free)"
        safe = self.durable_step
        kept = "no step" if safe is None else f"step {safe}"
        text = f"The checkpoint of step {step} was not written: {reason}. Kept: {kept}."
        return Stop(STORAGE, text)

    def _whole(self, step: str | int) -> tuple[int, manifest.Manifest]:
        """The first candidate for `step` of which every byte is right."""
        candidates = self._shelf.candidates(step)
        chosen, line = self._shelf.choose(candidates) if self._first else (-1, "")
        if jax.process_count() > 1:
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
        if chosen < 0:
            raise Stop(STORAGE, line or "The first process found no whole checkpoint.")
        if line:
            logging.warning("%s", line)
        return chosen, manifest.read(self._shelf.at(chosen))

    def _restore(
        self, tree: PyTree, step: str | int, prefix: str
    ) -> tuple[int, PyTree, manifest.Manifest]:
        """What is stored under `prefix`, in the structure of `tree`."""
        self.wait()
        number, facts = self._whole(step)
        stored = {k: v for k, v in facts["leaves"].items() if k.startswith(prefix)}
        wanted = leaves.nested(leaves.targets(tree, stored, number))
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context, jax.transfer_guard("allow"):
            path = str(self._shelf.at(number))
            found = ocp.load(path, wanted, checkpointable_name=_ITEM)
        return number, leaves.like(tree, found), facts


def load_params(
    run: str | pathlib.Path, step: str | int, abstract_params: PyTree, best: str = BEST
) -> PyTree:
    """The parameters of another run, from its folder; `step` as in `restore`."""
    folder = pathlib.Path(run) / "checkpoints"
    with Checkpoints(folder, every_steps=1, best=best, read_only=True) as checkpoints:
        return checkpoints.restore_params(abstract_params, step)


def _raise_everywhere(error: Stop | None) -> None:
    """Raises `error`, and where there is none, that another process has one."""
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(np.int32(error is not None))
        if failed.any() and error is None:
            error = Stop(STORAGE, "Another process could not write its checkpoint.")
    if error is not None:
        raise error


def _check(**options: Any) -> None:
    if "best" in options:
        more_is_better(options["best"])


# The block `checkpoint` of a config; `folder` and `read_only` are given.
CHECKPOINT = Entry(
    Checkpoints,
    "",
    {"every_steps": Range("[1, inf)"), "keep": Range("[2, inf)")},
    _check,
)
