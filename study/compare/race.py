"""Who gets there soonest: the time to a target, and its profile over the seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from study import profiles
from study.compare.contest import Contest
from study.compare.plots import color_of, legend_beside, picture
from study.compare.runs import Run
from study.compare.section import (
    Cell,
    Section,
    Table,
    amount,
    count,
    fixed,
    ratio,
    share,
)
from study.compare.tuned import Tuned

# What a run costs so far, at a line of its curve.
COSTS = ("steps", "tokens", "model_flops", "seconds")
NAMES = {
    "steps": "steps",
    "tokens": "tokens",
    "model_flops": "FLOPs",
    "seconds": "seconds",
}
MAX_TAU = 4.0


def cost_at(run: Run, line: Mapping[str, Any], cost: str) -> float:
    """What a run had cost at a line of its curve; NaN where that is not told.

    FLOPs are spread evenly over the tokens.
    """
    if cost == "steps":
        return float(line["step"])
    if cost == "model_flops":
        total = run.amount("tokens")
        part = line.get("tokens", math.nan) / total if total > 0 else math.nan
        return run.amount("model_flops") * part
    return float(line.get(cost, math.nan))


def time_of(contest: Contest, run: Run, cost: str) -> float:
    """What a run costs until it reaches the target; inf where it does not."""
    points = [] if run.diverged else run.points(contest.metric)
    costs = [cost_at(run, line, cost) for line in points]
    if any(map(math.isnan, costs)):
        return math.nan
    values = [line[contest.metric] for line in points]
    more = contest.better == "higher"
    return profiles.time_to_target(costs, values, contest.target, maximize=more)


def time_to_target(contest: Contest) -> Section:
    """What each arm takes to the baseline's result, in every currency."""
    key, title = "time_to_target", "Time to target"
    if math.isnan(contest.target):
        why = f"All runs of {contest.baseline.name} diverged: there is no target."
        return Section(key, title, absent=why)
    if not any(run.points(contest.metric) for arm in contest.arms for run in arm.runs):
        why = f"No run logged {contest.metric} on its way, only at its end."
        return Section(key, title, absent=why)
    times = {cost: _times(contest, cost) for cost in COSTS}
    told = [c for c in COSTS if not any(map(math.isnan, _flat(times[c])))]
    arms = [_race(contest, arm, times, told) for arm in contest.ranked]
    data = {"target": contest.target, "metric": contest.metric, "arms": arms}
    heads = ["arm", "reached", *(NAMES[c] for c in told), "compiling, s", "speed-up"]
    rows = []
    for facts in arms:
        medians = [_in(c, facts["median"][c]) for c in told]
        row: list[Cell] = [facts["name"], f"{facts['hits']} of {facts['n']}", *medians]
        compiled = fixed(facts["compile_seconds"], 1)
        rows.append([*row, compiled, ratio(facts["speedup"]["ratio"])])
    base = contest.baseline.name
    reading = (
        f"What it takes to come to {contest.metric} {contest.target:.{contest.digits}f}"
        f"{' or less' if contest.better == 'lower' else ' or more'}, the median over "
        "the seeds of the best setting; a miss is ∞. Nothing is read between two "
        "evaluations. Seconds are of training alone: no evaluation, and compiling has "
        f"its own column. The speed-up is how many times fewer steps than {base}, "
        "the geometric mean over the seeds that both reach."
    )
    note = "Trials that are trained together in one program share its seconds."
    return Section(key, title, reading, data, [Table(heads, rows)], notes=[note])


def _in(cost: str, value: float) -> Cell:
    if cost == "steps":
        return count(value)
    return fixed(value, 1) if cost == "seconds" else amount(value)


def _flat(times: profiles.Times) -> list[float]:
    return [value for row in times.values() for value in row.values()]


def _times(contest: Contest, cost: str) -> dict[str, dict[str, float]]:
    """By arm and seed, of the best settings."""
    return {
        arm.name: {str(s): time_of(contest, r, cost) for s, r in arm.best.runs.items()}
        for arm in contest.arms
    }


def _shared(times: profiles.Times) -> dict[str, dict[str, float]]:
    """Of the seeds that all arms have."""
    seeds = set.intersection(*(set(row) for row in times.values()))
    return {
        name: {seed: value for seed, value in row.items() if seed in seeds}
        for name, row in times.items()
    }


def _race(
    contest: Contest,
    arm: Tuned,
    times: Mapping[str, dict[str, dict[str, float]]],
    told: Sequence[str],
) -> dict[str, Any]:
    own = {cost: times[cost][arm.name] for cost in told}
    base = contest.baseline.name
    both = _shared({name: times["steps"][name] for name in {arm.name, base}})
    compiled = [run.amount("compile_seconds") for run in arm.best.runs.values()]
    return {
        "name": arm.name,
        "n": len(own["steps"]),
        "hits": sum(math.isfinite(value) for value in own["steps"].values()),
        "seeds": own,
        "median": {
            cost: float(np.median(list(row.values()))) for cost, row in own.items()
        },
        "compile_seconds": float(np.median(compiled)),
        "speedup": _speedup(both, arm.name, base)._asdict(),
    }


def _speedup(times: profiles.Times, name: str, base: str) -> profiles.Speedup:
    if not times[base]:
        return profiles.Speedup(math.nan, 0, 0, 0)
    return profiles.geometric_speedup(times, name, base)


def profile(contest: Contest) -> Section:
    """How often each arm is within a factor of the soonest; the seeds are workloads."""
    key, title = "profile", "Performance profile"
    if math.isnan(contest.target) or len(contest.arms) < 2:
        return Section(key, title, absent="It takes two arms and a target.")
    times = _shared(_times(contest, "steps"))
    seeds = list(next(iter(times.values())))
    finite = [value for value in _flat(times) if math.isfinite(value)]
    if not seeds or not finite:
        why = "The arms share no seed." if not seeds else "No arm reaches the target."
        return Section(key, title, absent=why)
    hit = [
        seed for seed in seeds if any(math.isfinite(r[seed]) for r in times.values())
    ]
    kept = {name: {seed: row[seed] for seed in hit} for name, row in times.items()}
    ratios = profiles.ratios(kept)
    rows = {
        name: [*row.values(), *[math.inf] * (len(seeds) - len(hit))]
        for name, row in ratios.items()
    }
    data = {
        "cost": "steps",
        "max_ratio": MAX_TAU,
        "arms": [
            {
                "name": arm.name,
                "ratios": rows[arm.name],
                "area": profiles.area(rows[arm.name], MAX_TAU),
                "soonest": float(profiles.profile(rows[arm.name], [1.0])[0]),
            }
            for arm in contest.ranked
        ],
    }
    table = [
        [a["name"], fixed(a["area"], 3), share(a["soonest"])] for a in data["arms"]
    ]
    reading = (
        "For each arm the share of workloads on which it comes to the target within "
        "so many times the steps of the soonest. A workload here is a seed of one and "
        f"the same task, so this says nothing of other tasks. The area, from 1 to "
        f"{MAX_TAU:g} and exact, is 1 for an arm that is always the soonest."
    )
    alt = "Performance profile; area " + ", ".join(
        f"{a['name']} {a['area']:.3f}" for a in data["arms"]
    )
    drawn = picture(
        lambda axes: _draw_profile(axes, contest, rows), alt, height=3.2, width=6.2
    )
    heads = ["arm", "area under the profile", "soonest"]
    return Section(key, title, reading, data, [Table(heads, table)], [drawn])


def _draw_profile(axes, contest: Contest, rows: Mapping[str, list[float]]) -> None:
    names = [arm.name for arm in contest.arms]
    for place, arm in enumerate(contest.ranked):
        name, found = arm.name, rows[arm.name]
        taus = np.unique([1.0, *(t for t in found if t < MAX_TAU), MAX_TAU])
        shares = 100 * profiles.profile(found, taus)
        # A little apart, or arms that are always the same would hide each other.
        style = {"color": color_of(names, name), "linewidth": 2.2}
        axes.step(taus, shares - 0.7 * place, where="post", label=name, **style)
    axes.set_ylim(-4, 104)
    axes.set_xlim(1, MAX_TAU)
    axes.set_xlabel("times the steps of the soonest arm")
    axes.set_ylabel("seeds at the target, %")
    legend_beside(axes)
