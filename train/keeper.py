"""When to save: by plan, at a new best score, at the end, and when asked to leave."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.exits import PREEMPTED, Stop
from core.mean import Mean
from train.checkpoints import Checkpoints, more_is_better
from train.fingerprint import Fingerprint
from train.logs import Metrics
from train.preemption import Preemption
from train.report import Report
from train.step import TrainState


class Keeper:
    """A hook of every step. `past` are the lines that the run has logged before."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        report: Report,
        metrics: Metrics,
        preemption: Preemption,
        facts: Fingerprint,
        *,
        best: str,
        past: Sequence[Mapping[str, Any]],
        num_steps: int,
    ):
        self._checkpoints, self._report, self._metrics = checkpoints, report, metrics
        self._preemption, self._facts = preemption, facts
        self._score, self._sign = best, 1 if more_is_better(best) else -1
        self._best, self._num_steps = float("-inf"), num_steps
        for line in past:
            if best in line:
                self._improves(line)

    def __call__(self, step: int, state: TrainState, scores: dict[str, Mean]) -> None:
        del scores
        asked = self._preemption.asked(step)
        last = step == self._num_steps
        known = self._report.validated if self._report.validated_step == step else {}
        is_best = bool(known) and self._improves(known)
        if self._checkpoints.due(step) or is_best or asked or last:
            self._metrics.sync()
            self._checkpoints.save(step, state, known, self._facts)
        if asked and not last:
            self._checkpoints.close()
            raise Stop(PREEMPTED, f"Saved step {step}; the same command goes on.")

    def _improves(self, scores: Mapping[str, float]) -> bool:
        """Takes in the scores of one evaluation: whether they are the best so far."""
        score = self._sign * scores[self._score]
        better = score > self._best  # which NaN never is
        if better:
            self._best = score
        return better
