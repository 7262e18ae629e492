"""The folder of checkpoints: which steps it lists, and which it lets go."""

import os
import pathlib
import re
import shutil
import time

from absl import logging

from core.registry import nearest
from train import manifest

# Scores by the end of their name, and whether more is better.
MORE_IS_BETTER = {
    "loss": False,
    "bleu": True,
    "chrf": True,
    "exact_match": True,
    "accuracy": True,
}

TRASH = ".trash"
TEMPORARY = ".orbax-checkpoint-tmp"


def more_is_better(score: str) -> bool:
    """Which way the score of this name improves.

    Raises:
      ValueError: nobody said so for a name that ends like this.
    """
    for end, more in MORE_IS_BETTER.items():
        if re.search(rf"(^|_){end}$", score):
            return more
    raise ValueError(
        f"checkpoint.best={score!r} is not known.{nearest(score, MORE_IS_BETTER)} "
        f"It must end with one of {sorted(MORE_IS_BETTER)}."
    )


class Shelf:
    """Steps in `folder`, each in a folder of its number.

    A step is listed while its manifest is in place and all files have their sizes.
    `damaged` are those of which a reader found that this is not enough.
    """

    def __init__(self, folder: pathlib.Path, best: str):
        self.folder = folder
        self.damaged: set[int] = set()
        self._best, self._sign = best, 1 if more_is_better(best) else -1

    def at(self, step: int) -> pathlib.Path:
        """Where the step is, or would be."""
        return self.folder / str(step)

    def sealed(self) -> list[int]:
        """Steps that have a manifest, good or bad, the newest first."""
        return [n for n in self._numbers() if (self.at(n) / manifest.NAME).exists()]

    def listed(self) -> dict[int, manifest.Manifest]:
        """The durable steps, the newest first, with their manifests."""
        found = {}
        for step in self.sealed():
            if step not in self.damaged:
                try:
                    found[step] = manifest.read(self.at(step))
                except manifest.Damaged:
                    continue
        return found

    def ranked(self) -> list[int]:
        """The listed steps that have the score, the best first; of equals the newer."""
        scores = {
            step: self._sign * found["scores"][self._best]
            for step, found in self.listed().items()
            if self._best in found["scores"]
        }
        known = [step for step in scores if scores[step] == scores[step]]  # not NaN
        return sorted(known, key=lambda step: -scores[step])  # stable: newer first

    def candidates(self, step: str | int) -> list[int]:
        """What to try for `latest`, `best` or a number, in order.

        Raises:
          FileNotFoundError: there is nothing to try.
          ValueError: another word.
        """
        sealed, ranked = self.sealed(), self.ranked()
        if not sealed:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint.")
        if isinstance(step, int):
            if step not in sealed:
                raise FileNotFoundError(
                    f"step={step} is not among the checkpoints of {self.folder}: "
                    f"{sorted(sealed)}."
                )
            return [step]
        if step not in ("best", "latest"):
            known = ["best", "latest"]
            raise ValueError(
                f"step={step!r} is not known.{nearest(step, known)} "
                f"Known: {known}, or a number."
            )
        if step == "latest":
            return sealed
        if not ranked:
            raise FileNotFoundError(
                f"No checkpoint in {self.folder} has the score {self._best!r}. "
                "Take 'latest'."
            )
        # An unreadable one may have been the best: it is to be named.
        return [*(each for each in sealed if each not in self.listed()), *ranked]

    def retain(self, keep: int) -> None:
        """Lets go of all but the newest `keep` and the best."""
        listed = list(self.listed())
        kept = {*listed[:keep], *self.ranked()[:1]}
        for step in self._numbers():
            if step not in kept and step < listed[0]:
                self.drop(step)

    def drop(self, step: int) -> None:
        """Unlists the step, then deletes it: at no moment is half a step listed."""
        folder, trash = self.at(step), self.folder / TRASH
        if folder.exists():
            (folder / manifest.NAME).unlink(missing_ok=True)
            manifest.flush(folder)
            trash.mkdir(exist_ok=True)
            away = trash / f"{step}-{time.time_ns()}"
            os.rename(folder, away)
            shutil.rmtree(away, ignore_errors=True)

    def choose(self, candidates: list[int]) -> tuple[int, str]:
        """The step to take, or -1, and what is to be said of those before it."""
        wrong = []
        for step in candidates:
            try:
                manifest.verify(self.at(step))
            except manifest.Damaged as damage:
                self.damaged.add(step)
                wrong.append(f"checkpoint of step {step} is damaged ({damage})")
                continue
            going = f"; going on with step {step}." if wrong else ""
            return step, "; ".join(wrong) + going
        return -1, "; ".join(wrong) + "; there is nothing to go on with."

    def discard(self, step: int) -> None:
        """Gives back the space of a step that could not be written."""
        for path in (self.at(step), *self.folder.glob(f"{step}{TEMPORARY}*")):
            shutil.rmtree(path, ignore_errors=True)

    def room(self) -> int:
        """Bytes that checkpoints may take: what is free and what they have."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        used = sum(path.stat().st_size for path in files)
        return used + shutil.disk_usage(self.folder).free

    def clean(self) -> None:
        """Deletes what a killed run left: trash, temporary and unsealed folders."""
        shutil.rmtree(self.folder / TRASH, ignore_errors=True)
        for path in self.folder.glob(f"*{TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)
        sealed = self.sealed()
        for step in self._numbers():
            if step not in sealed:
                logging.warning(
                    "checkpoint of step %d was never finished (no %s): deleted.",
                    step,
                    manifest.NAME,
                )
                self.drop(step)

    def _numbers(self) -> list[int]:
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        steps = [int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name)]
        return sorted(steps, reverse=True)
