"""Successive halving: every trial gets a few steps, the best of them get more.

What to do next is a pure function of the scores so far, which stand in run folders: a
controller that is killed decides the same again. Trials are named by text, by the id of
their point say; at equal scores the name decides. Lower scores are better, and NaN or
infinity, a run that diverged or failed for good, is never promoted. Runs go on from
their checkpoints, so a trial costs the steps that it has come to.

A schedule that falls over `num_steps` is read before its end at every rung but the
last; such scores choose, and are nothing to publish.

Source: Jamieson & Talwalkar 2016, https://arxiv.org/abs/1502.07943; Hyperband: Li et
al. 2018, https://jmlr.org/papers/v18/16-558.html, algorithm 1; ASHA: Li et al. 2020,
https://arxiv.org/abs/1810.05934, algorithm 2. Departs from the latter two: trials are
resumed, where they count every rung from step 0.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

Scores = Mapping[str, Mapping[int, float]]  # of each trial, by the steps it had


class Job(NamedTuple):
    """A trial is to be trained until it has had so many steps."""

    trial: str
    until_steps: int


class Bracket(NamedTuple):
    """How many trials are trained to each rung; both tuples are as long.

    >>> bracket(9, max_steps=900, factor=3)
    Bracket(steps=(100, 300, 900), sizes=(9, 3, 1))
    """

    steps: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def cost_steps(self) -> int:
        """The steps of all its trials, if none diverges."""
        return sum(
            (after - before) * size
            for before, after, size in zip(
                (0, *self.steps), self.steps, self.sizes, strict=False
            )
        )


def bracket(
    num_trials: int, *, max_steps: int, factor: int = 3, min_steps: int = 1
) -> Bracket:
    """Rungs so that each has `1 / factor` of the trials, and the last has one or more.

    There are as many as the trials allow, from `min_steps` on.

    Raises:
      ValueError: a number that is out of range.
    """
    _check(num_trials, max_steps, factor, min_steps)
    num_cuts = 0
    while num_trials >= factor ** (
        num_cuts + 1
    ) and max_steps >= min_steps * factor ** (num_cuts + 1):
        num_cuts += 1
    return _bracket(num_trials, max_steps, factor, num_cuts)


def hyperband(
    *, max_steps: int, factor: int = 3, min_steps: int = 1
) -> tuple[Bracket, ...]:
    """Brackets from the boldest, with the most trials, to plain search without a cut.

    >>> [bracket.sizes for bracket in hyperband(max_steps=9)]
    [(9, 3, 1), (5, 1), (3,)]
    """
    _check(1, max_steps, factor, min_steps)
    most = 0
    while min_steps * factor ** (most + 1) <= max_steps:
        most += 1
    return tuple(
        _bracket(-(-(most + 1) * factor**cuts // (cuts + 1)), max_steps, factor, cuts)
        for cuts in range(most, -1, -1)
    )


def jobs(bracket: Bracket, trials: Sequence[str], scores: Scores) -> list[Job]:
    """What a bracket is waiting for, the same until a score comes in; [] at its end.

    A rung is decided when the last of its trials has a score there.
    """
    alive = sorted(trials)
    for rung, steps in enumerate(bracket.steps):
        missing = [name for name in alive if steps not in scores.get(name, {})]
        if missing:
            return [Job(name, steps) for name in missing]
        if rung + 1 < len(bracket.steps):
            here = {name: scores[name][steps] for name in alive}
            alive = best(here, bracket.sizes[rung + 1])
    return []


def best(scores: Mapping[str, float], count: int) -> list[str]:
    """The names of the lowest scores, the best first; of finite ones only.

    >>> best({"c": 1.0, "a": 1.0, "b": float("nan"), "d": 0.5}, 2)
    ['d', 'a']
    """
    finite = [name for name, score in scores.items() if math.isfinite(score)]
    return sorted(finite, key=lambda name: (scores[name], name))[:count]


def promotion(
    steps: Sequence[int], factor: int, scores: Scores, started: Iterable[Job] = ()
) -> Job | None:
    """ASHA: the next trial to promote, from the highest rung where one can be.

    A trial can be once it is among the best `1 / factor` of all that have a score at
    its rung, and nobody has `started` it to the next. With None, begin a new trial at
    the lowest rung. Never waits, so it is for machines that are not alike; it promotes
    some trials that a whole rung would not have.
    """
    begun = {(job.trial, job.until_steps) for job in started}
    for low, high in reversed([*itertools.pairwise(steps)]):
        here = {name: of[low] for name, of in scores.items() if low in of}
        for name in best(here, len(here) // factor):
            if high not in scores[name] and (name, high) not in begun:
                return Job(name, high)
    return None


def spent_steps(scores: Scores, trials: Collection[str] | None = None) -> int:
    """The steps that trials have had, by their scores."""
    return sum(
        max(of, default=0)
        for name, of in scores.items()
        if trials is None or name in trials
    )


def _bracket(num_trials: int, max_steps: int, factor: int, num_cuts: int) -> Bracket:
    cuts = range(num_cuts + 1)
    return Bracket(
        tuple(max_steps // factor ** (num_cuts - cut) for cut in cuts),
        tuple(num_trials // factor**cut for cut in cuts),
    )


def _check(num_trials: int, max_steps: int, factor: int, min_steps: int) -> None:
    if num_trials < 1:
        raise ValueError(f"{num_trials=} must be 1 or more.")
    if factor < 2:
        raise ValueError(f"{factor=} must be 2 or more: the best 1 / factor go on.")
    if not 1 <= min_steps <= max_steps:
        raise ValueError(f"{min_steps=} must lie in [1, {max_steps=}].")
