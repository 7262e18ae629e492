"""One trial among those of a program: an ordinary run's folder, log and checkpoints."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from core.exits import NUMERICS, Stop
from core.registry import build
from train import fingerprint
from train.assemble import Parts
from train.checkpoints import CHECKPOINT, Checkpoints
from train.clock import Clock
from train.folder import Folder, locked
from train.guard import GUARD, GuardState
from train.keeper import Best, Enough, Keeper
from train.logs import Metrics, read_metrics, write_json
from train.measure import Beside
from train.preemption import Preemption
from train.report import Report
from train.step import Scores, TrainState
from train.summary import summed_up


class Seen(NamedTuple):
    """What the host has fetched of all trials after a step, with their axis."""

    scores: Scores
    guard: GuardState
    validated: Scores
    beside: Scores


class Share(Clock):
    """A trial's share of the seconds of a program, told by who has the clock."""

    def __init__(self, seconds: float):
        super().__init__()
        self.told = seconds

    @property
    def seconds(self) -> float:
        """So far."""
        return self.told


class Silent:
    """The progress of one trial, which nobody watches."""

    def at(self, step: int) -> None:
        """Says nothing."""

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Says nothing."""

    def say(self, line: str) -> None:
        """Says nothing."""


class Member:
    """A trial that is trained until it has had `until` steps; a context.

    `diverged` says why the guard ended it, `ended` whether it needs no more steps.
    """

    def __init__(self, parts: Parts, folder: Folder, until: int):
        self.parts, self.folder, self.until = parts, folder, until
        self.diverged, self.ended = "", False
        self.seed = parts.config["seed"]

    @contextlib.contextmanager
    def entered(
        self, beside: Beside, preemption: Preemption, command: Sequence[str]
    ) -> Iterator["Member"]:
        """Begins the run in its folder, or goes on with it; holds the folder.

        Raises:
          ValueError: another process has it, or it holds another run.
        """
        parts, folder = self.parts, self.folder
        facts = fingerprint.take(parts.config, data_digest=parts.prepared.digest)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(folder.path))
            folder.enter(
                parts.config,
                facts,
                tokenizer=parts.prepared.tokenizer.model,
                allow_drift=(),
                command=command,
            )
            block = parts.config["checkpoint"]
            self.checkpoints: Checkpoints = stack.enter_context(
                build(CHECKPOINT, block, folder=folder.checkpoints)
            )
            self.metrics = stack.enter_context(Metrics(folder.path))
            self.first = self.checkpoints.durable_step or 0
            self.metrics.cut(self.first)
            past = read_metrics(folder.path)
            self.clock = Share(past[-1]["seconds"] if past else 0.0)
            self.report = self._report(beside)
            patience = parts.config["evaluate"]["patience"]
            best = Best(parts.config["checkpoint"]["best"], patience, past)
            self.ended = self.first >= parts.num_steps or best.enough
            self.keeper = Keeper(
                self.checkpoints,
                self.report,
                self.metrics,
                preemption,
                facts,
                best=best,
                num_steps=self.until,
            )
            yield self

    def restore(self) -> TrainState:
        """The state of the last checkpoint, on the host."""
        shape = self.parts.program.shape(self.parts.values, jax.random.key(0))
        return jax.device_get(self.checkpoints.restore(shape)[1])

    def tell(self, step: int, seen: Seen, place: int, seconds: float) -> None:
        """Logs a step of which the host has seen the scores."""
        self.clock.told += seconds
        if not self.report.due(step):
            return
        of: Seen = jax.tree.map(lambda x: x[place], seen)
        self._seen = of
        blank: Any = ()  # the report looks at the guard alone
        state = TrainState(blank, blank, blank, of.guard, blank)
        try:
            self.report(step, state, of.scores)
        except Stop as stop:
            if stop.code != NUMERICS:
                raise
            self.diverged, self.ended = str(stop), True

    def keep(self, step: int, state: Callable[[], TrainState]) -> None:
        """Saves the state if it is time to.

        Raises:
          Stop: asked to leave, it has saved; or it could not.
        """
        if self.ended:
            return
        try:
            self.keeper.keep(step, state)
        except Enough:
            self.ended = True
        self.ended |= step == self.parts.num_steps

    def finish(self, compile_seconds: float) -> None:
        """Waits for the last checkpoint; of a run at its end writes the summary."""
        self.checkpoints.close()
        if not self.ended:
            return
        lines = read_metrics(self.folder.path)
        summary = summed_up(
            self.parts, lines, self.checkpoints, compile_seconds, self.diverged
        )
        write_json(self.folder.summary, self.folder.read_summary() | summary)

    def _report(self, beside: Beside) -> Report:
        config, parts = self.parts.config, self.parts
        return Report(
            self.metrics,
            Silent(),
            self.clock,
            judge=build(GUARD, config["guard"]),
            tokens_after=parts.batches.tokens_before,
            validate=lambda state: self._seen.validated,
            memory_bytes=lambda: 0,
            log_every=config["log_every"],
            evaluate_every=config["evaluate"]["every_steps"],
            num_steps=self.until,
            beside=Beside(beside.due, lambda step, state: self._seen.beside),
        )


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Trees of the same shapes as one, with an axis in front."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
