"""What a stage found: its best setting, and whether it is better than the config's own.

The best of several is lucky. So it has to be better by more than seeds explain at the
level that all of them share: the interval of its gain, in pairs of seeds, at
1 - 0.05 / (settings - 1), lies above 0 (Bonferroni).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from study.intervals import Interval, interval, paired_interval
from study.outcomes import Outcome, by_id
from study.point import Point
from study.recipe.plan import Plan
from study.table import losses

ALPHA = 0.05


class Choice(NamedTuple):
    """The losses of each setting by its name, the lowest mean, and if it is taken."""

    losses: Mapping[str, Sequence[float]]
    best: str
    taken: bool
    why: str

    @property
    def own(self) -> str:
        """The config's own setting."""
        return next(iter(self.losses))

    def mean(self, name: str) -> float:
        """The mean loss of a setting: infinite where a trial diverged."""
        return float(np.mean(self.losses[name]))

    def gain(self, name: str) -> float:
        """By how much a setting is better than the config's own, in nats.

        -inf where it diverged, and inf where only the config's own did.
        """
        mean, own = self.mean(name), self.mean(self.own)
        return -math.inf if math.isinf(mean) else own - mean

    def interval(self, name: str) -> Interval:
        """Of the mean loss of a setting."""
        return interval(self.losses[name])


def choose(plan: Plan, outcomes: Sequence[Outcome]) -> Choice:
    """The best of a stage's settings, and if the search goes on from it."""
    known = by_id([*outcomes])
    found = {
        name: losses([known[Point(dict(setting), seed).id] for seed in plan.seeds])
        for name, setting in plan.settings.items()
    }
    own, *others = found
    best = min(found, key=lambda name: float(np.mean(found[name])))
    if math.isinf(np.mean(found[best])):
        return Choice(found, own, False, "every setting diverged: kept")
    if best == own:
        return Choice(found, own, False, "nothing tried was better: kept")
    if math.isinf(np.mean(found[own])):
        return Choice(found, best, True, f"{own} diverged: {best} is taken")
    level = 1 - ALPHA / len(others)
    first, second = np.asarray(found[own]), np.asarray(found[best])
    gain = paired_interval(first, second, level=level)
    told = f"a gain of {gain} nats at {level:.2%}, in {len(plan.seeds)} pairs of seeds"
    if gain.low > 0:
        return Choice(found, best, True, f"{best} is taken: {told}")
    return Choice(
        found, best, False, f"no difference that the seeds show: kept ({best}: {told})"
    )
