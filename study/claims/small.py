"""The criterion of small data: does what regularizes keep a text from being learnt?"""

import itertools
import math
import statistics
from collections.abc import Callable

import numpy as np

from study.claims.compared import METRIC
from study.claims.judged import Judged, Line, Part, Plot, above, plain
from study.claims.runs import Run, Runs, arm
from study.significance import page


def regularized(
    runs: Runs,
    *,
    of: str,
    strengths: str,
    along: str,
    other: str,
    floor: float,
    alpha: float,
) -> Judged:
    """Does the gap fall along `along`, is its best inside, does the other cure help?

    The gap is the last loss on validation less the mean training loss of the last fifth
    of the lines. It is to fall from value to value in the mean, and by Page's test at
    `alpha`. The `other` cure is to gain more than `floor` nats over the least value.
    """
    settings = runs.having({of: strengths}).along(along)
    gaps = {value: setting.by_seed(_gap) for value, setting in settings.items()}
    values = list(settings)
    seeds = list(gaps[values[0]])
    # Page's test is of a rise, so the columns stand from the most to the least.
    table = [[gaps[value][seed] for value in reversed(values)] for seed in seeds]
    p = page(np.array(table))
    means = [statistics.fmean(gaps[value].values()) for value in values]
    falls = all(after < before for before, after in itertools.pairwise(means))
    told = ", ".join(f"{m:.3f}" for m in means)
    trend = plain(
        f"the gap falls with {along}",
        falls and p < alpha,
        f"the gap is {told} at {along} {', '.join(f'{v:g}' for v in values)}; Page's "
        f"p={p:.2g}",
        p=p,
        num_seeds=len(seeds),
    )
    best = min(values, key=lambda value: settings[value].mean)
    inside = _inside(along, best, values)
    helped = runs.having({of: other}).best
    gain = above(
        f"{other} gains more than {floor:g} nats",
        arm(f"{along}={values[0]:g}", settings[values[0]].losses),
        arm(other, helped.losses),
        floor,
        metric=METRIC,
    )

    def line(name: str, score: Callable[[Run], float]) -> Line:
        scored = [list(s.by_seed(score).values()) for s in settings.values()]
        return Line(name, values, scored)

    lines = [
        line("validation", lambda run: run.loss),
        line("training", _training),
        Line(f"validation, {other}", [values[0]], [list(helped.losses.values())]),
    ]
    return Judged([gain, trend, inside], Plot(along, "nats a character", lines))


def _inside(along: str, best: float, values: list[float]) -> Part:
    asked = f"the best {along} is neither the least nor the most"
    said = f"the best {along} of {', '.join(f'{v:g}' for v in values)} is {best:g}"
    if best == values[-1]:
        return Part(asked, "INVALID", f"{said}, the highest that was tried")
    return plain(asked, best != values[0], said)


def _training(run: Run) -> float:
    """The mean loss of the last fifth of the lines."""
    losses = [line["loss"] for line in run.lines if "loss" in line]
    if not losses or not math.isfinite(run.loss):
        return math.inf
    return statistics.fmean(losses[-max(1, len(losses) // 5) :])


def _gap(run: Run) -> float:
    return run.loss - _training(run) if math.isfinite(run.loss) else math.inf
