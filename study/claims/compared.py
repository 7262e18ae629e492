"""Criteria of runs that are compared: gaps, sensitivity, steps to a target, margins."""

import dataclasses
import math
import statistics
from collections.abc import Mapping

from study.budget import rate_sensitivity
from study.claims.judged import Judged, Line, Part, Plot, above, plain
from study.claims.runs import Run, Runs, Setting, arm
from study.profiles import time_to_target

METRIC = "val_loss"
NATS = "validation loss, nats a character"


def gap_of_gaps(
    runs: Runs,
    *,
    of: str,
    large: str,
    small: str,
    along: str,
    floor: float,
    initial_loss: float,
) -> Judged:
    """Does the least of `along` cost more than its most, and by more with `large`?

    The gap is the loss at the least value less that at the greatest. Where `of` is
    `large` it is to exceed that of `small` by more than `floor` nats. A run that
    diverged has the loss of no training.
    """
    lines, gaps = [], {}
    for word in (large, small):
        settings = runs.having({of: word}).along(along)
        capped = {
            value: setting.by_seed(lambda run: min(run.loss, initial_loss))
            for value, setting in settings.items()
        }
        first, last = capped[min(capped)], capped[max(capped)]
        gaps[word] = {seed: first[seed] - last[seed] for seed in first}
        values = [list(losses.values()) for losses in capped.values()]
        lines.append(Line(f"{of}={word}", list(capped), values))
    name = {word: f"the gap with {word}" for word in (large, small)}
    part = above(
        f"{name[small]} is smaller by more than {floor:g} nats",
        arm(name[large], gaps[large]),
        arm(name[small], gaps[small]),
        floor,
        metric="nats",
    )
    told = [
        plain(
            name[word],
            True,
            f"{name[word]} is {statistics.fmean(gaps[word].values()):.3f} nats",
            told=True,
        )
        for word in (large, small)
    ]
    return Judged([part, *told], Plot(along, NATS, lines))


def sensitivity(
    runs: Runs,
    *,
    of: str,
    baseline: str,
    candidate: str,
    along: str,
    ratio: float,
    score: str,
    at: float,
    score_ratio: float,
    initial_loss: float,
) -> Judged:
    """Do wrong learning rates cost `ratio` times less, and is a score that much less?

    The cost is the mean over the rates of min(loss, initial loss), less the best. Of
    the score named `score...` counts the greatest that a run at the rate `at` logged.
    Ratios are compared by their logarithms.
    """
    arms, tops, lines = {}, {}, []
    for word in (baseline, candidate):
        part = runs.having({of: word})
        settings = part.along(along)
        costs = {
            seed: rate_sensitivity(
                [setting.losses[seed] for setting in settings.values()], initial_loss
            )
            for seed in part.best.runs
        }
        logs = {seed: _log(cost) for seed, cost in costs.items()}
        arms[word] = arm(f"{of}={word}", logs, part.edges, len(part.settings))
        tops[word] = settings[at].by_seed(
            lambda run: _log(max(run.values(score), default=math.inf))
        )
        capped = [
            [min(run.loss, initial_loss) for run in setting.runs.values()]
            for setting in settings.values()
        ]
        lines.append(Line(f"{of}={word}", list(settings), capped))
    costs = _times(
        f"wrong rates cost {ratio:g} times less",
        arms[baseline],
        arms[candidate],
        ratio,
    )
    scores = _times(
        f"{score} at {along}={at:g} is {score_ratio:g} times less",
        arm(arms[baseline].name, tops[baseline]),
        arm(arms[candidate].name, tops[candidate]),
        score_ratio,
    )
    plot = Plot(along, NATS, lines, x_scale="log", level=initial_loss)
    return Judged([costs, scores], plot)


def _log(value: float) -> float:
    """Of what is not above 0, or not a number, inf: a run that has lost."""
    return math.log(value) if value > 0 else math.inf


def _times(asked: str, baseline, candidate, ratio: float) -> Part:
    """Is a number that the arms have by its logarithm `ratio` times less?"""
    part = above(asked, baseline, candidate, math.log(ratio), metric="its logarithm")
    middle, low, high = map(math.exp, part.effect[:3])
    said = f"{asked}: {middle:.3g} times [{low:.3g}, {high:.3g}]; {part.sentence}"
    effect = part.effect._replace(mean=middle, low=low, high=high)
    return dataclasses.replace(part, sentence=said, effect=effect)


def steps_to_target(
    runs: Runs,
    *,
    of: str,
    baseline: str,
    candidates: tuple[str, ...],
    share: float,
    beside: tuple[str, ...],
) -> Judged:
    """Is each candidate in `share` of the baseline's steps where the baseline ends?

    In pairs of seeds, each method at its best setting, by the first score on validation
    that is as good. Never there is inf. Baselines `beside` are compared with as well,
    and told.
    """
    methods = {
        word: runs.having({of: word}) for word in (baseline, *beside, *candidates)
    }
    parts = [
        _steps(methods[base], methods[word], base, word, share, told=base != baseline)
        for base in (baseline, *beside)
        for word in candidates
    ]
    lines = [_curve(word, method.best) for word, method in methods.items()]
    level = methods[baseline].best.mean
    return Judged(parts, Plot("step", NATS, lines, level=level))


def _steps(
    theirs: Runs, ours: Runs, base: str, word: str, share: float, *, told: bool
) -> Part:
    """One candidate against one baseline, whose edges matter where it is judged."""
    targets = theirs.best.losses

    def log_steps(method: Runs) -> dict[int, float]:
        return {
            seed: math.log(_steps_to(run, targets[seed]))
            for seed, run in method.best.runs.items()
        }

    asked = f"{word} needs {share:g} of the steps of {base}"
    counts = len(theirs.settings), ours.num_settings(theirs)
    arms = (
        arm(base, log_steps(theirs), [] if told else theirs.edges, counts[0]),
        arm(word, log_steps(ours), [] if told else ours.edges, counts[1]),
    )
    part = above(asked, *arms, -math.log(share), metric="the logarithm of its steps")
    gain = part.effect
    middle, low, high = (math.exp(-value) for value in (gain.mean, gain.high, gain.low))
    said = f"{word} needs {middle:.3f} [{low:.3f}, {high:.3f}] of the steps of {base}"
    rates = f"best at {_stated(ours.best)}, {base} at {_stated(theirs.best)}"
    sentence = f"{said}, p={part.p:.2g}; {rates}"
    if part.kind == "INVALID":
        sentence = f"{part.sentence}; {said}"
    effect = gain._replace(mean=middle, low=low, high=high)
    return dataclasses.replace(part, sentence=sentence, effect=effect, told=told)


def _steps_to(run: Run, target: float) -> float:
    curve = run.curve
    return time_to_target(list(curve), list(curve.values()), target)


def _curve(name: str, setting: Setting) -> Line:
    """The validation loss over the steps, of all seeds."""
    steps = sorted(setting.first.curve)
    values = [
        [run.curve.get(step, math.inf) for run in setting.runs.values()]
        for step in steps
    ]
    return Line(name, steps, values)


def _stated(setting: Setting) -> str:
    """The numbers of a setting."""
    numbers: Mapping[str, object] = setting.first.point.overrides
    return ", ".join(
        f"{key.rpartition('.')[2]}={value:g}"
        for key, value in numbers.items()
        if isinstance(value, float)
    )


def no_worse(
    runs: Runs,
    *,
    of: str,
    baseline: str,
    candidates: tuple[str, ...],
    margins: tuple[float, ...],
    along: str,
) -> Judged:
    """Is each candidate, at its best, behind the baseline by less than its margin?

    The picture is over `along`.
    """
    methods = {word: runs.having({of: word}) for word in (baseline, *candidates)}
    arms = {
        word: arm(word, m.best.losses, m.edges, m.num_settings(methods[baseline]))
        for word, m in methods.items()
    }
    parts = []
    for word, margin in zip(candidates, margins, strict=True):
        part = above(
            f"{word} is behind {baseline} by less than {margin:g} nats",
            arms[baseline],
            arms[word],
            -margin,
            metric=METRIC,
        )
        parts.append(part)
    lines = [
        Line(
            word,
            [s.first.point.overrides[along] for s in method.settings],
            [list(s.losses.values()) for s in method.settings],
        )
        for word, method in methods.items()
    ]
    plot = Plot(along, NATS, lines, x_scale="log")
    return Judged(parts, plot)
