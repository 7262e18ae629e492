"""When to save: by plan, at a new best score, at the end, and when asked to leave.

And when a run has had enough.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.exits import PREEMPTED, Stop
from core.mean import Mean
from train.checkpoints import Checkpoints, more_is_better
from train.fingerprint import Fingerprint
from train.logs import Metrics
from train.preemption import Preemption
from train.report import Report
from train.step import TrainState


class Enough(Exception):
    """The run ends before its last step, as it should."""


class Best:
    """The best score on validation so far; `past` are the lines logged before.

    It follows from the lines alone, so a run that is resumed has the same patience
    left. `patience` is that of the config, and 0 has no end.
    """

    def __init__(self, name: str, patience: int, past: Sequence[Mapping[str, Any]]):
        self._name, self._sign = name, 1 if more_is_better(name) else -1
        self._patience, self._waited = patience, 0
        self._score = float("-inf")
        for line in past:
            if name in line:
                self.saw(line)

    def saw(self, scores: Mapping[str, float]) -> bool:
        """Takes in the scores of one evaluation: whether they are the best so far."""
        score = self._sign * scores[self._name]
        better = score > self._score  # which NaN never is
        self._score = score if better else self._score
        self._waited = 0 if better else self._waited + 1
        return better

    @property
    def enough(self) -> bool:
        """Whether `patience` scores in a row were no better."""
        return 0 < self._patience <= self._waited

    @property
    def verdict(self) -> str:
        """Why the run ends early, to be told."""
        return f"{self._name} has not improved for {self._waited} evaluations."


class Keeper:
    """A hook of every step.

    Raises:
      Enough: after this step, which is saved, `best` has run out of patience.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        report: Report,
        metrics: Metrics,
        preemption: Preemption,
        facts: Fingerprint,
        *,
        best: Best,
        num_steps: int,
    ):
        self._checkpoints, self._report, self._metrics = checkpoints, report, metrics
        self._preemption, self._facts = preemption, facts
        self._best, self._num_steps = best, num_steps

    def __call__(self, step: int, state: TrainState, scores: dict[str, Mean]) -> None:
        del scores
        self.keep(step, lambda: state)

    def keep(self, step: int, state: Callable[[], TrainState]) -> None:
        """After every step; asks for the state where it is to be saved."""
        asked = self._preemption.asked(step)
        last = step == self._num_steps
        known = self._report.validated if self._report.validated_step == step else {}
        is_best = bool(known) and self._best.saw(known)
        enough = self._best.enough
        if self._checkpoints.due(step) or is_best or asked or last or enough:
            self._metrics.sync()
            self._checkpoints.save(step, state(), known, self._facts)
        if enough and not last:
            raise Enough(self._best.verdict)
        if asked and not last:
            self._checkpoints.close()
            raise Stop(PREEMPTED, f"Saved step {step}; the same command goes on.")
