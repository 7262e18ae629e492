"""Loss against what was spent on it, and the speed-up at equal loss."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from study.budget import speedup
from study.compare.contest import Contest
from study.compare.plots import QUIET, color_of, legend_beside, picture, prefixed
from study.compare.race import NAMES, cost_at
from study.compare.section import Section, Table, fixed, ratio
from study.compare.tuned import Tuned

Curve = tuple[list[float], list[float]]  # costs, losses


def against_compute(contest: Contest) -> Section:
    """The loss over what was spent on it, and the speed-up at equal loss."""
    key, title = "compute", "Loss against compute"
    cost = _currency(contest)
    curves = {arm.name: _mean_curve(contest, arm, cost) for arm in contest.ranked}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if not curves:
        return Section(key, title, absent="No run logged a curve.")
    data: dict[str, Any] = {"cost": cost, "arms": []}
    levels = _levels(contest, curves)
    ended = {a.name for a in contest.arms if a.arm.read_step == a.arm.end_step}
    for name, (costs, losses) in curves.items():
        facts = {
            "name": name,
            "cost": costs,
            "value": [contest.sign * loss for loss in losses],
            "mid_schedule": [True] * (len(costs) - 1) + [name not in ended],
        }
        if contest.baseline.name in curves and name != contest.baseline.name:
            theirs = curves[contest.baseline.name]
            found = speedup(levels, (costs, losses), theirs).tolist()
            facts["speedup"] = found
        data["arms"].append(facts)
    data["levels"] = [contest.sign * level for level in levels]
    unit = NAMES[cost]
    table = [
        [facts["name"], *(ratio(value) for value in facts["speedup"])]
        for facts in data["arms"]
        if "speedup" in facts
    ]
    base, digits = contest.baseline.name, contest.digits
    heads = ["arm", *(f"at {fixed(v, digits).text}" for v in data["levels"])]
    reading = (
        "Mean curves of the best settings, of runs that did not diverge. Only the "
        "large dots, ends of a schedule, are results; hollow ones are mid-schedule, "
        "where the rate is high and rankings can turn."
    )
    alt = f"{contest.metric} over {unit}, a curve for each of {', '.join(curves)}"
    drawn = picture(_curves(contest, curves, unit, ended), alt, height=3.8, width=7.4)
    caption = f"Speed-up in {unit} over {base}, at equal {contest.metric}"
    note = (
        "The last level is the baseline's own end; those before it are mid-schedule, "
        "and so is an arm that comes to that end before its own."
    )
    tables = [Table(heads, table, caption)] if table and levels else []
    if tables:
        reading += (
            f" The table reads across, at equal {contest.metric}: how many times fewer "
            f"{unit} than {base} an arm takes."
        )
    return Section(key, title, reading, data, tables, [drawn], [note] if tables else [])


def _currency(contest: Contest) -> str:
    """FLOPs where all runs tell them, else tokens, else steps."""
    runs = [run for arm in contest.arms for run in arm.best.runs.values()]
    for cost in ("model_flops", "tokens"):
        lines = [(run, line) for run in runs for line in run.points(contest.metric)]
        if all(cost_at(run, line, cost) > 0 for run, line in lines):
            return cost
    return "steps"


def _mean_curve(contest: Contest, arm: Tuned, cost: str) -> Curve:
    """Means of cost and loss where all runs were read that did not diverge."""
    runs = [run for run in arm.best.runs.values() if not run.diverged]
    tables = [
        {line["step"]: line for line in run.points(contest.metric)} for run in runs
    ]
    if not tables:
        return [], []
    steps = sorted(set.intersection(*map(set, tables)))
    costs, losses = [], []
    for step in steps:
        lines = [table[step] for table in tables]
        mean = float(np.mean([line[contest.metric] for line in lines]))
        spent = [cost_at(run, x, cost) for run, x in zip(runs, lines, strict=True)]
        if min(spent) > 0:
            costs.append(float(np.mean(spent)))
            losses.append(contest.sign * mean)
    return costs, losses


def _levels(contest: Contest, curves: Mapping[str, Curve]) -> list[float]:
    """Two levels on the baseline's way, and its end."""
    if contest.baseline.name not in curves:
        return []
    losses = curves[contest.baseline.name][1]
    highest, end = min(curve[1][0] for curve in curves.values()), losses[-1]
    if not highest > end:
        return [end]
    return [float(level) for level in np.linspace(highest, end, 4)[1:]]


def _curves(
    contest: Contest, curves: Mapping[str, Curve], unit: str, ended: Collection[str]
) -> Callable:
    names = [arm.name for arm in contest.arms]

    def draw(axes) -> None:
        for name, (costs, losses) in curves.items():
            color = color_of(names, name)
            values = [contest.sign * loss for loss in losses]
            hollow = {"marker": "o", "ms": 4, "mfc": "white"}
            axes.plot(costs, values, color=color, linewidth=1.6, **hollow)
            last = {"ms": 9} if name in ended else hollow
            style = {"color": color, "label": name, "linestyle": "none"}
            axes.plot(costs[-1], values[-1], **{"marker": "o"} | style | last)
        if contest.baseline.name in curves:
            end = contest.sign * curves[contest.baseline.name][1][-1]
            axes.axhline(end, color=QUIET, linewidth=1, linestyle="--", zorder=0)
        prefixed(axes)
        axes.set_xlabel(f"{unit} of one run")
        axes.set_ylabel(contest.axis)
        legend_beside(axes)

    return draw
