"""The criterion of searches: what cheaper ones would have found in the runs of one."""

import math
import statistics
from collections.abc import Sequence

from study.claims.judged import Judged, Line, Plot, plain
from study.claims.runs import Runs
from study.intervals import interval
from study.search.replay import Replay, replay


def replayed(
    runs: Runs,
    *,
    num_replays: int,
    num_trials: int,
    factor: int,
    num_rungs: int,
    max_gap: float,
    max_cost_share: float,
) -> Judged:
    """Does halving, over trials that were logged, find nearly the best for less?

    The mean gap to random search's best of the same trials is to be at most `max_gap`
    of that, with all its 95 % interval over the replays; the mean cost at most
    `max_cost_share` of the steps.
    """
    curves = {run.point.id: run.curve for run in runs.runs}
    last = max(step for curve in curves.values() for step in curve)
    # A run that diverged has no scores from there on: none is as bad as inf.
    steps = [last // factor**cut for cut in reversed(range(num_rungs))]
    whole = {
        name: {step: curve.get(step, math.inf) for step in steps}
        for name, curve in curves.items()
    }
    parts, lines = [], []
    for name, asha in (("halving", False), ("ASHA", True)):
        found = [
            replay(
                whole,
                seed=seed,
                num_trials=num_trials,
                factor=factor,
                min_steps=steps[0],
                asha=asha,
            )
            for seed in range(num_replays)
        ]
        parts.append(_replays(name, found, max_gap, max_cost_share))
        lines.append(Line(name, [name], [[replay.gap for replay in found]]))
    plot = Plot("search", "gap to the best of random search", lines, x_scale="words")
    return Judged(parts, plot._replace(level=max_gap))


def _replays(name: str, found: Sequence[Replay], max_gap: float, max_cost_share: float):
    gap = interval([replay.gap for replay in found])
    cost = statistics.fmean(replay.cost_share for replay in found)
    asked = (
        f"{name}: a gap of at most {max_gap:.0%} at {max_cost_share:.0%} of the cost"
    )
    said = (
        f"{name} is {gap.mean:.2%} [{gap.low:.2%}, {gap.high:.2%}] above the best of "
        f"random search, at {cost:.1%} of its steps, in {len(found)} replays"
    )
    holds = gap.high <= max_gap and cost <= max_cost_share
    return plain(asked, holds, said, effect=gap, num_seeds=len(found))
