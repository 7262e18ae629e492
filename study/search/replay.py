"""What a search would have found and cost, read from runs that all went to the end."""

import random
from collections.abc import Mapping
from typing import NamedTuple

from study.search.halving import (
    Job,
    best,
    bracket,
    jobs,
    promotion,
    spent_steps,
)

Curves = Mapping[str, Mapping[int, float]]  # of each trial, its score at every rung


class Replay(NamedTuple):
    """Of one replay: the score found, random search's over the same trials, the cost.

    `cost_share` is in steps, of those of random search.
    """

    found: float
    lowest: float
    cost_share: float

    @property
    def gap(self) -> float:
        """By how much of random search's best the score is above it."""
        return (self.found - self.lowest) / abs(self.lowest)


def replay(
    curves: Curves,
    *,
    seed: int,
    num_trials: int = 0,
    factor: int = 3,
    min_steps: int = 1,
    asha: bool = False,
) -> Replay:
    """One search over `num_trials` of the trials, 0 all, in an order that `seed` draws.

    Halving takes them as one bracket; ASHA one after the other, on one machine. The
    rungs are those of the bracket, and each curve has a score at each.

    Raises:
      ValueError: a curve lacks a rung, or no trial comes to the end.
    """
    order = sorted(curves)
    random.Random(seed).shuffle(order)
    order = order[: num_trials or len(order)]
    last = max(max(curves[name]) for name in order)
    rungs = bracket(len(order), max_steps=last, factor=factor, min_steps=min_steps)
    for name in order:
        for steps in rungs.steps:
            if steps not in curves[name]:
                raise ValueError(f"{name} has no score at step {steps}, a rung.")
    scores: dict[str, dict[int, float]] = {}
    if asha:
        waiting = iter(order)
        while job := promotion(rungs.steps, factor, scores) or next(
            (Job(name, rungs.steps[0]) for name in waiting), None
        ):
            _run(job, curves, scores)
    else:
        while todo := jobs(rungs, order, scores):
            for job in todo:
                _run(job, curves, scores)
    whole = {name: curves[name][last] for name in order}
    ended = {name: of[last] for name, of in scores.items() if last in of}
    found, lowest = best(ended, 1), best(whole, 1)
    if not found:
        raise ValueError("Every trial diverged before its end; there is no best.")
    return Replay(
        ended[found[0]], whole[lowest[0]], spent_steps(scores) / (last * len(order))
    )


def _run(job: Job, curves: Curves, scores: dict[str, dict[int, float]]) -> None:
    """The run has had its score read off at every rung up to this one."""
    of = scores.setdefault(job.trial, {})
    of[job.until_steps] = curves[job.trial][job.until_steps]
