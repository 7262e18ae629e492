"""Is a candidate better than a baseline: PASS, FAIL, or INVALID as it was asked.

PASS and FAIL are answers. INVALID is a comparison that could not have given one, or
that was not fair; a result that looks good makes it no better. Verdicts are a pure
function of what runs scored and how they were tuned.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from core.refusal import shown
from study import power, significance
from study.arms import Arm, Pair, faults, pair_of
from study.intervals import Interval
from study.losses import Better, gains_of

Kind = Literal["PASS", "FAIL", "INVALID"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a comparison says, why in one line, and by which numbers.

    `gain` is by how much the candidate is better; `p` counts the other comparisons in,
    and is 1 of an invalid one; `num_diverged` is of baseline and candidate.
    `needed_seeds` are those of an arm that an answer would take, if the gain is what it
    seems; None: it is not their number that is wrong, or none would do.
    """

    kind: Kind
    reason: str
    gain: Interval
    p: float
    num_seeds: int
    num_diverged: tuple[int, int]
    needed_seeds: int | None


class Above(NamedTuple):
    """Is the candidate better by more than `floor`? One below 0: is it hardly worse?

    By the exact test of the gains - floor: of their signs where seeds are shared, else
    of regrouping. And the 95 % interval of the gain, where there is one, is above it.
    """

    floor: float = 0.0

    def p(self, pair: Pair) -> float:
        """The p-value of one comparison."""
        if pair.paired:
            gains = gains_of(pair.baseline_R, pair.candidate_Q)
            # A pair that diverged in both arms clears no floor, not even one below 0.
            lost = np.isinf(pair.baseline_R) & np.isinf(pair.candidate_Q)
            return significance.sign_flip(np.where(lost, 0, gains - self.floor))
        return significance.regroup(pair.baseline_R - self.floor, pair.candidate_Q)

    def lacks(self, pair: Pair, alpha: float) -> bool:
        """Whether no result of so many seeds comes down to alpha."""
        return pair.least_p > alpha

    def fewest(self, alpha: float, *, paired: bool) -> int:
        """Seeds of each arm of which one does."""
        return (power.fewest_pairs if paired else power.fewest_runs)(alpha)

    def doubt(self, gain: Interval) -> str:
        """What the interval leaves open, whatever p is; empty if nothing."""
        if gain.method == "none" or gain.low > self.floor:
            return ""
        return f"the interval is not all above {self.floor:g}"

    def room(self, gain: float) -> float:
        """How far a gain is on the side that passes."""
        return gain - self.floor

    def bar(self, baseline: str) -> str:
        """What is asked, in words."""
        if self.floor == 0:
            return f"better than {baseline}"
        if self.floor < 0:
            return f"at most {-self.floor:g} worse than {baseline}"
        return f"better than {baseline} by more than {self.floor:g}"


class Within(NamedTuple):
    """Are both equal but for less than `margin`? By two one-sided t-tests."""

    margin: float

    def p(self, pair: Pair) -> float:
        """The p-value of one comparison."""
        return significance.tost(
            pair.baseline_R, pair.candidate_Q, margin=self.margin, paired=pair.paired
        )

    def lacks(self, pair: Pair, alpha: float) -> bool:
        """Whether an arm has no spread."""
        return pair.num_seeds < 2

    def fewest(self, alpha: float, *, paired: bool) -> int:
        """Two, of which there is one."""
        return 2

    def doubt(self, gain: Interval) -> str:
        """Nothing: the tests are those of an interval."""
        return ""

    def room(self, gain: float) -> float:
        """How far a gain is on the side that passes."""
        return self.margin - abs(gain)

    def bar(self, baseline: str) -> str:
        """What is asked, in words."""
        return f"within {self.margin:g} of {baseline}"


def judge(
    baseline: Arm,
    candidates: Sequence[Arm],
    question: Above | Within,
    *,
    metric: str,
    better: Better,
    alpha: float = 0.05,
    num_comparisons: int = 0,
) -> dict[str, Verdict]:
    """The verdict on each candidate, by its name.

    All candidates are one family, Holm's, in which an invalid one counts with p = 1.
    `num_comparisons`, where it is more than their number, counts those that are asked
    elsewhere as well. `better` is the direction in which the metric improves.

    Raises:
      ValueError: ranked by what training differentiates; a name is there twice.
    """
    _check(metric, [baseline, *candidates])
    number = max(num_comparisons, len(candidates))
    pairs = [pair_of(baseline, arm, better) for arm in candidates]
    wrong = [
        faults(baseline, arm) + _too_few(question, pair, alpha, number)
        for arm, pair in zip(candidates, pairs, strict=True)
    ]
    found = [
        1.0 if why else question.p(pair) for why, pair in zip(wrong, pairs, strict=True)
    ]
    adjusted = significance.holm([*found, *[1.0] * (number - len(found))])
    verdicts = {}
    for arm, pair, why, p in zip(candidates, pairs, wrong, adjusted, strict=False):
        doubt = question.doubt(pair.gain) if p <= alpha else ""
        passed = p <= alpha and not doubt
        kind = "INVALID" if why else "PASS" if passed else "FAIL"
        needed = _needed(question, pair, kind, alpha / number)
        if not why:
            bar = f"{question.bar(baseline.name)} in {metric}"
            why = _answer(arm.name, bar, pair, kind, p, needed)
            why += [doubt] if doubt else []
        reason = "; ".join([*why, *_diverged([baseline, arm], pair)])
        numbers = pair.gain, float(p), pair.num_seeds, pair.num_diverged
        verdicts[arm.name] = Verdict(kind, reason, *numbers, needed)
    return verdicts


def _check(metric: str, arms: Sequence[Arm]) -> None:
    if re.search(r"(^|[_/])objective$", metric):
        raise ValueError(
            f"metric={shown(metric)} holds each arm's own regularizers: rank by "
            f"'val_loss' or a metric."
        )
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{shown(name)} is the name of more than one arm.")


def _too_few(
    question: Above | Within, pair: Pair, alpha: float, number: int
) -> list[str]:
    """That the seeds cannot carry so many comparisons, if so."""
    if not pair.num_seeds or not question.lacks(pair, alpha / number):
        return []
    asked = "one comparison" if number == 1 else f"{number} comparisons"
    least = question.fewest(alpha / number, paired=pair.paired)
    return [f"{_size(pair)} cannot carry {asked} at {alpha:g}: it takes {least}"]


def _needed(
    question: Above | Within, pair: Pair, kind: Kind, alpha: float
) -> int | None:
    """The seeds of an arm that an answer takes, more than there are."""
    least = question.fewest(alpha, paired=pair.paired)
    if kind == "INVALID":
        return least if question.lacks(pair, alpha) else None
    room = question.room(pair.gain.mean)
    if kind == "PASS" or pair.gain.method == "none" or not room > 0:
        return None
    # With .9 each, the two tests of `Within` have .8 together.
    aim = 0.9 if isinstance(question, Within) else power.POWER
    number = power.needed_seeds(room, pair.sd, paired=pair.paired, alpha=alpha, aim=aim)
    return max(number, least, pair.num_seeds + 1)


def _answer(
    name: str, bar: str, pair: Pair, kind: Kind, p: float, needed: int | None
) -> list[str]:
    """What the test says, and of a failure what more seeds would do."""
    numbers = f"gain {pair.gain}, p={p:.2g}, {_size(pair)}"
    if kind == "PASS":
        return [f"{name} is {bar}: {numbers}"]
    if needed is None:
        more = "more seeds of such runs would not show it"
    else:
        more = f"a gain like this takes {needed} seeds"
    return [f"{name} is not shown to be {bar}: {numbers}", more]


def _size(pair: Pair) -> str:
    return f"{pair.num_seeds} {'pairs of seeds' if pair.paired else 'seeds of an arm'}"


def _diverged(arms: Sequence[Arm], pair: Pair) -> list[str]:
    return [
        f"{lost} of {len(arm.scores)} runs of {arm.name} diverged"
        for arm, lost in zip(arms, pair.num_diverged, strict=True)
        if lost
    ]
