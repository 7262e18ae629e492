"""A claim that was judged: what held, by which numbers, and what is drawn of it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from study.arms import Arm
from study.intervals import Interval
from study.verdict import Above, Kind, judge

Scale = Literal["linear", "log", "words"]

NO_INTERVAL = Interval(math.nan, -math.inf, math.inf, 0, "none", "it is one number")


@dataclasses.dataclass(frozen=True)
class Part:
    """One thing that a claim says. `asked` names it; a p of NaN is of no test.

    `told` alone is beside the claim, and no verdict comes of it.
    """

    asked: str
    kind: Kind
    sentence: str
    effect: Interval = NO_INTERVAL
    p: float = math.nan
    num_seeds: int = 0
    told: bool = False


class Line(NamedTuple):
    """A line of a plot: at each x the values of all seeds, drawn with their mean."""

    name: str
    x: Sequence[float | str]
    values: Sequence[Sequence[float]]


class Plot(NamedTuple):
    """What is seen of a claim; `level` is a horizontal line, say the claim's own.

    With `ringed` the lowest mean of each line has a ring: its optimum.
    """

    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    level: float = math.nan
    ringed: bool = False


@dataclasses.dataclass(frozen=True)
class Judged:
    """PASS where all parts do, INVALID where one is, else FAIL.

    Each part is a test of its own at the level of the claim: a claim that all must
    pass is not made easier by their number. Effect and p are those of the first part.
    """

    parts: Sequence[Part]
    plot: Plot | None = None
    claim: str = ""

    @property
    def kind(self) -> Kind:
        """The verdict."""
        kinds = {part.kind for part in self.parts if not part.told}
        return next(k for k in ("INVALID", "FAIL", "PASS") if k in kinds)

    @property
    def effect(self) -> Interval:
        """By how much, and between what it lies."""
        return self.parts[0].effect

    @property
    def p(self) -> float:
        """Of the exact test."""
        return self.parts[0].p

    @property
    def num_seeds(self) -> int:
        """Pairs of runs."""
        return self.parts[0].num_seeds

    @property
    def sentence(self) -> str:
        """Why, in one line."""
        return "; ".join(part.sentence for part in self.parts)


def plain(asked: str, holds: bool, sentence: str, **numbers) -> Part:
    """A part that is a fact and no test."""
    return Part(asked, "PASS" if holds else "FAIL", sentence, **numbers)


def above(
    asked: str, baseline: Arm, candidate: Arm, floor: float, *, metric: str
) -> Part:
    """Is the candidate's metric lower by more than `floor`, in pairs of seeds?

    As `judge` has it; where a run diverged there is no interval, and no PASS either.
    """
    verdict = judge(baseline, [candidate], Above(floor), metric=metric, better="lower")[
        candidate.name
    ]
    kind, reason, gain = verdict.kind, verdict.reason, verdict.gain
    if kind == "PASS" and gain.method == "none":
        kind, reason = "FAIL", f"{reason}, which has no interval"
    return Part(asked, kind, reason, gain, verdict.p, verdict.num_seeds)
