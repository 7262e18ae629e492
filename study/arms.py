"""Two arms of a comparison: their losses, and what makes comparing them unfair."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from core.refusal import shown
from study.edge import Edge
from study.intervals import Interval, paired_interval, unpaired_interval
from study.losses import Better, losses_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison, at its best setting.

    `scores` by seed; one that is not finite is a run that diverged, and counts. `edges`
    are where the best setting is the last that was tried (`study/edge.py`). `budget` is
    what must be the same for both arms, by name: trials, steps, tokens. The scores were
    read at `read_step` of a schedule that ends at `end_step`.
    """

    name: str
    scores: Mapping[int, float]
    edges: Sequence[Edge]
    budget: Mapping[str, float]
    read_step: int
    end_step: int


class Pair(NamedTuple):
    """Losses of two arms, of one seed after the other where they share seeds."""

    baseline_R: Float[np.ndarray, "R"]
    candidate_Q: Float[np.ndarray, "Q"]
    paired: bool

    @property
    def num_seeds(self) -> int:
        """Of the arm that has less."""
        return min(self.baseline_R.size, self.candidate_Q.size)

    @property
    def least_p(self) -> float:
        """The least p-value that the exact test of so many seeds can have."""
        if self.paired:
            return 0.5**self.num_seeds
        sizes = self.baseline_R.size, self.candidate_Q.size
        return 1 / math.comb(sum(sizes), sizes[0])

    @property
    def num_diverged(self) -> tuple[int, int]:
        """Runs of each arm."""
        first, second = np.isinf(self.baseline_R), np.isinf(self.candidate_Q)
        return int(first.sum()), int(second.sum())

    @property
    def gain(self) -> Interval:
        """By how much the candidate is better."""
        of = paired_interval if self.paired else unpaired_interval
        return of(self.baseline_R, self.candidate_Q)

    @property
    def sd(self) -> float:
        """Of the gains, or within an arm; of two finite losses or more."""
        if self.paired:
            return float(np.std(self.baseline_R - self.candidate_Q, ddof=1))
        parts = (self.baseline_R.var(ddof=1), self.candidate_Q.var(ddof=1))
        return math.sqrt(sum(parts) / 2)


def pair_of(baseline: Arm, candidate: Arm, better: Better) -> Pair:
    """The losses of two arms: of the seeds that both have, of all where none is."""
    shared = sorted(baseline.scores.keys() & candidate.scores.keys())
    first, second = (
        losses_of([arm.scores[seed] for seed in shared or sorted(arm.scores)], better)
        for arm in (baseline, candidate)
    )
    return Pair(first, second, paired=bool(shared))


def faults(baseline: Arm, candidate: Arm) -> list[str]:
    """What makes it no comparison, a line each; a good result does not heal it."""
    found = []
    seeds = [arm.scores.keys() for arm in (baseline, candidate)]
    if seeds[0] & seeds[1] and seeds[0] ^ seeds[1]:
        alone = shown(sorted(seeds[0] ^ seeds[1]))
        found.append(f"seeds {alone} have a run of one arm only: run the other")
    for arm in (baseline, candidate):
        if not arm.scores:
            found.append(f"{arm.name} has no runs")
        found += [
            f"{arm.name}: the best {edge.key}={edge.value} is the {edge.side} that was "
            f"tried: widen the grid"
            for edge in arm.edges
        ]
        if arm.read_step != arm.end_step:
            found.append(
                f"{arm.name} was read at step {arm.read_step} of a schedule that ends "
                f"at {arm.end_step}"
            )
    for name in sorted(baseline.budget.keys() | candidate.budget.keys()):
        first, second = (arm.budget.get(name) for arm in (baseline, candidate))
        if first != second:
            found.append(
                f"unequal budgets: {name} is {_amount(first)} for {baseline.name}, "
                f"{_amount(second)} for {candidate.name}"
            )
    return found


def _amount(value: float | None) -> str:
    return "not told" if value is None else f"{value:g}"
