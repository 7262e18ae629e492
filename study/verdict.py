"""Is a candidate better than a baseline: PASS, FAIL, or INVALID as it was asked.

PASS and FAIL are answers. INVALID is a comparison that could not have given one, or
that was not fair; a result that looks good makes it no better. Verdicts are a pure
function of what runs scored and how they were tuned.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

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
    of regrouping.
    """

    floor: float = 0.0

    def p(self, pair: Pair) -> float:
        """The p-value of one comparison."""
        if pair.paired:
            gains = gains_of(pair.baseline, pair.candidate)
            return significance.sign_flip(gains - self.floor)
        return significance.regroup(pair.baseline - self.floor, pair.candidate)

    def fewest(self, alpha: float, num_comparisons: int, *, paired: bool) -> int:
        """Seeds of an arm, below which the test cannot come down to alpha."""
        of = power.fewest_pairs if paired else power.fewest_runs
        return of(alpha, num_comparisons)

    def room(self, gain: float) -> float:
        """How far a gain is on the side that passes."""
        return gain - self.floor

    def bar(self, baseline: str) -> str:
        """What is asked, in words."""
        if self.floor == 0:
            return f"better than {baseline}"
        if self.floor < 0:
            return f"worse than {baseline} by less than {-self.floor:g}"
        return f"better than {baseline} by more than {self.floor:g}"


class Within(NamedTuple):
    """Are both equal but for less than `margin`? By two one-sided t-tests."""

    margin: float

    def p(self, pair: Pair) -> float:
        """The p-value of one comparison."""
        return significance.tost(
            pair.baseline, pair.candidate, margin=self.margin, paired=pair.paired
        )

    def fewest(self, alpha: float, num_comparisons: int, *, paired: bool) -> int:
        """Two, of which there is a spread."""
        return 2

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
    wrong, found = [], []
    for arm, pair in zip(candidates, pairs, strict=True):
        why = faults(baseline, arm)
        least = question.fewest(alpha, number, paired=pair.paired)
        if 0 < pair.num_seeds < least:
            why.append(_too_few(pair, alpha, number, least))
        wrong.append(why)
        found.append(1.0 if why else question.p(pair))
    adjusted = significance.holm([*found, *[1.0] * (number - len(found))])
    verdicts = {}
    for arm, pair, why, p in zip(candidates, pairs, wrong, adjusted, strict=False):
        kind = "INVALID" if why else "PASS" if p <= alpha else "FAIL"
        needed = None
        if kind != "PASS":
            needed = _needed(question, pair, kind, alpha, number)
        bar = question.bar(baseline.name)
        reason = "; ".join(why) or _answer(arm.name, bar, metric, pair, kind, p)
        if kind == "FAIL":
            reason += f"; {_seeds(needed)}"
        reason += _diverged(baseline.name, arm.name, pair)
        verdicts[arm.name] = Verdict(
            kind, reason, pair.gain, float(p), pair.num_seeds, pair.num_diverged, needed
        )
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


def _too_few(pair: Pair, alpha: float, number: int, least: int) -> str:
    what = "pairs of seeds" if pair.paired else "seeds of an arm"
    asked = "one comparison" if number == 1 else f"{number} comparisons"
    return (
        f"{pair.num_seeds} {what} cannot carry {asked} at {alpha:g}: it takes {least}"
    )


def _needed(
    question: Above | Within, pair: Pair, kind: Kind, alpha: float, number: int
) -> int | None:
    """The seeds of an arm that an answer takes, more than there are."""
    least = question.fewest(alpha, number, paired=pair.paired)
    if kind == "INVALID":
        return least if pair.num_seeds < least else None
    room = question.room(pair.gain.mean)
    if any(pair.num_diverged) or not room > 0:
        return None
    # With .9 each, the two tests of `Within` have .8 together.
    aim = 0.9 if isinstance(question, Within) else power.POWER
    number_of = power.needed_seeds(
        room, pair.sd, paired=pair.paired, alpha=alpha / number, aim=aim
    )
    return max(number_of, least, pair.num_seeds + 1)


def _answer(name: str, bar: str, metric: str, pair: Pair, kind: Kind, p: float) -> str:
    verb = "is" if kind == "PASS" else "is not shown to be"
    return (
        f"{name} {verb} {bar} in {metric}: gain {pair.gain}, p={p:.2g}, "
        f"{pair.num_seeds} {'pairs of seeds' if pair.paired else 'seeds of an arm'}"
    )


def _seeds(needed: int | None) -> str:
    if needed is None:
        return "more seeds of such runs would not show it"
    return f"a gain like this takes {needed} seeds"


def _diverged(baseline: str, candidate: str, pair: Pair) -> str:
    sizes = (pair.baseline.size, pair.candidate.size)
    found = [
        f"{lost} of {size} runs of {name} diverged"
        for name, lost, size in zip(
            (baseline, candidate), pair.num_diverged, sizes, strict=True
        )
        if lost
    ]
    return "".join(f"; {text}" for text in found)
