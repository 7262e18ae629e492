"""All that is compared: arms, the question, its verdicts, and the finding in a line."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from core.refusal import listed, nearest, shown
from study.arms import Pair, pair_of
from study.compare.naming import told_apart
from study.compare.runs import SWEEP, Found, flattened
from study.compare.section import fixed, p_value, span
from study.compare.tuned import Tuned, rank, tuned
from study.intervals import Interval, interval
from study.losses import Better
from study.verdict import Above, Verdict, Within, judge
from train.logs import read_json
from train.shelf import MORE_IS_BETTER

LEVEL_SHARE = 0.01  # tokens that differ by less are the same budget


@dataclasses.dataclass(frozen=True)
class Contest:
    """The arms in the order of their names or paths; `metric` is what ranks them."""

    found: Found
    paths: Sequence[str]
    command: Sequence[str]
    metric: str
    better: Better
    arms: Sequence[Tuned]
    baseline: Tuned
    question: Above | Within
    verdicts: Mapping[str, Verdict]
    target: float
    empty: Sequence[str] = ()  # arms without a run that has a result

    @property
    def candidates(self) -> list[Tuned]:
        """All arms but the baseline, the best first."""
        return [arm for arm in self.ranked if arm is not self.baseline]

    @property
    def ranked(self) -> list[Tuned]:
        """All arms, the best first."""
        return sorted(self.arms, key=lambda arm: (arm.best.loss, *rank(arm.best)))

    @property
    def sign(self) -> int:
        """By which a loss is a score."""
        return 1 if self.better == "lower" else -1

    @property
    def unit(self) -> str:
        """Of the metric, as a word behind a number."""
        return "nats" if self.metric.endswith("loss") else ""

    @property
    def axis(self) -> str:
        """The metric as the label of an axis."""
        return f"{self.metric} ({self.unit})" if self.unit else self.metric

    @property
    def digits(self) -> int:
        """Behind the point of a score."""
        return _digits(score_interval(arm) for arm in self.arms)

    @property
    def gain_digits(self) -> int:
        """Behind the point of a difference."""
        return _digits(verdict.gain for verdict in self.verdicts.values())


def score_interval(arm: Tuned) -> Interval:
    """Of the mean loss at the best setting: there is none where a run diverged."""
    return interval(list(arm.best.losses.values()))


def mean_score(contest: Contest, arm: Tuned) -> float:
    """At the best setting; infinite where a run diverged."""
    return contest.sign * score_interval(arm).mean


def pair(contest: Contest, arm: Tuned) -> Pair:
    """The losses of the baseline and of an arm."""
    return pair_of(contest.baseline.arm, arm.arm, contest.better)


def _digits(found: Iterable[Interval]) -> int:
    """As many as the half width of the narrowest has that mean something."""
    halves = [(i.high - i.low) / 2 for i in found if i.method != "none"]
    least = min((half for half in halves if half > 0), default=0.005)
    power = math.floor(math.log10(least))
    return int(np.clip(-power + (least < 3 * 10**power), 2, 6))


def contest(
    found: Found,
    paths: Sequence[str],
    *,
    by: Sequence[str],
    baseline: str,
    metric: str,
    target: float | None,
    question: Above | Within,
    command: Sequence[str],
) -> Contest:
    """The arms of these runs, judged.

    Raises:
      ValueError: no arm has the name of the baseline, or no key tells arms apart.
    """
    better = "higher" if _more_is_better(metric) else "lower"
    groups = told_apart(found.runs, paths, by)
    arms = [tuned(n, r, metric, better) for n, r in groups.runs.items()]
    first = _named(arms, baseline) if baseline else _usual(arms, found, groups.keys)
    arms = [arm if arm is first else _level(arm, first) for arm in arms]
    rest = [arm.arm for arm in arms if arm is not first]
    verdicts = judge(first.arm, rest, question, metric=metric, better=better)
    if target is None:
        target = _middle(first, better)
    return Contest(
        found,
        paths,
        command,
        metric,
        better,
        arms,
        first,
        question,
        verdicts,
        target,
        groups.empty,
    )


def _more_is_better(metric: str) -> bool:
    """Which way the metric improves; that of an unknown one is downwards.

    Raises:
      ValueError: nobody knows.
    """
    if metric.endswith("objective"):
        return False  # `judge` refuses it, and says why
    ends = [end for end in MORE_IS_BETTER if metric.endswith(end)]
    if not ends:
        raise ValueError(
            f"metric={shown(metric)}: nobody knows which way it improves. It must end "
            f"with one of {listed(MORE_IS_BETTER)}."
        )
    return MORE_IS_BETTER[ends[0]]


def _middle(arm: Tuned, better: Better) -> float:
    """The median score of the arm's runs, of two in the middle the worse.

    So half of its runs reach it. NaN where more than half diverged.
    """
    losses = sorted(arm.best.losses.values())
    middle = losses[len(losses) // 2]
    if math.isinf(middle):
        return math.nan
    return middle if better == "lower" else -middle


def _named(arms: Sequence[Tuned], name: str) -> Tuned:
    names = [arm.name for arm in arms]
    if name not in names:
        raise ValueError(
            f"baseline={shown(name)} is no arm.{nearest(name, names)} "
            f"Arms: {listed(names)}."
        )
    return arms[names.index(name)]


def _usual(arms: Sequence[Tuned], found: Found, keys: Sequence[str]) -> Tuned:
    """The arm that the sweep's own config is of; else the first."""
    for sweep in found.sweeps[:1] if keys else ():
        config = read_json(sweep / SWEEP).get("config", {})
        usual = flattened(config)
        for arm in arms:
            if all(arm.config.get(key) == usual.get(key) for key in keys):
                return arm
    return arms[0]


def _level(arm: Tuned, baseline: Tuned) -> Tuned:
    """The arm, whose tokens count as the baseline's where they differ by packing.

    Where they have batches of other sizes tokens are the budget, and steps are none.
    """
    own, theirs = (one.arm.budget.get("tokens", math.nan) for one in (arm, baseline))
    if not abs(own - theirs) <= LEVEL_SHARE * theirs:
        return arm
    budget = {**arm.arm.budget, "tokens": theirs}
    if arm.config.get("batch_size") != baseline.config.get("batch_size"):
        budget["steps"] = baseline.arm.budget["steps"]
    return dataclasses.replace(arm, arm=dataclasses.replace(arm.arm, budget=budget))


def finding(contest: Contest) -> str:
    """What the comparison says, in a sentence: who wins, or why nobody does."""
    if not contest.candidates and contest.empty:
        names = joined(contest.empty)
        return f"No winner can be named: of {names} there is no run with a result"
    if not contest.candidates:
        mean = fixed(mean_score(contest, contest.baseline), contest.digits).text
        best = f"at best it has {contest.metric} {mean}"
        return f"One arm only, {contest.baseline.name}: {best}"
    judged = {arm.name: contest.verdicts[arm.name] for arm in contest.candidates}
    passed = [name for name, verdict in judged.items() if verdict.kind == "PASS"]
    if not passed:
        first = contest.candidates[0].name
        return f"No winner can be named: {_why_not(contest, first, judged[first])}"
    base, names = contest.baseline.name, joined(passed)
    verb = "" if len(passed) > 1 else "s"
    if isinstance(contest.question, Within):
        start = f"{names} equal{verb} {base} within {contest.question.margin:g}"
        return f"{start} {contest.unit}".strip() + f" ({numbers(contest, passed[0])})"
    if contest.question.floor < 0:
        most = f"{-contest.question.floor:g} {contest.unit}".strip()
        start = f"{names} {'are' if len(passed) > 1 else 'is'} less than {most} worse"
        return f"{start} than {base}, if at all ({numbers(contest, passed[0])})"
    gain = judged[passed[0]].gain.mean
    by = f" by {with_unit(contest, gain)}" if math.isfinite(gain) else ""
    if len(passed) > 1:
        return f"{names} beat {base}, {passed[0]}{by} ({numbers(contest, passed[0])})"
    return f"{names} beats {base}{by} ({numbers(contest, passed[0])})"


def numbers(contest: Contest, name: str) -> str:
    """The interval, the seeds and the p-value of a verdict, for a sentence."""
    verdict = contest.verdicts[name]
    parts = [f"{verdict.num_seeds} seeds", f"p = {p_value(verdict.p).text}"]
    if verdict.gain.method != "none":
        found = span(verdict.gain.low, verdict.gain.high, contest.gain_digits)
        parts.insert(0, f"95 % {found}")
    for arm, lost in zip(
        (contest.baseline.name, name), verdict.num_diverged, strict=True
    ):
        if lost:
            parts.append(f"{lost} of {arm} diverged")
    return ", ".join(parts).replace("= <", "<")


def with_unit(contest: Contest, value: float) -> str:
    """A difference with its unit."""
    return f"{fixed(value, contest.gain_digits).text} {contest.unit}".strip()


def joined(names: Sequence[str]) -> str:
    """A list in a sentence.

    >>> joined(["adam"]), joined(["adam", "lion", "muon"])
    ('adam', 'adam, lion and muon')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _why_not(contest: Contest, name: str, verdict: Verdict) -> str:
    others = len(contest.candidates) - 1
    more = f"; nor is any of the {others} others" if others > 1 else ""
    more = f"; nor is {contest.candidates[1].name}" if others == 1 else more
    if verdict.kind == "INVALID":
        first, more, _ = verdict.reason.partition("; ")
        return f"{first} (and more, below)" if more else first
    gain = verdict.gain.mean
    way = "better" if gain > 0 else "worse"
    size = f", {with_unit(contest, abs(gain))} {way} in the mean" if gain else ""
    asked = contest.question.bar(contest.baseline.name)
    size = size if math.isfinite(gain) else ""
    return f"{name} is not shown to be {asked}{size} ({numbers(contest, name)}){more}"
