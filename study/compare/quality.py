"""Quality against cost: the settings that no other one beats in both."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from study.budget import hypervolume, on_front
from study.compare.contest import Contest
from study.compare.naming import described
from study.compare.plots import QUIET, color_of, legend_beside, picture, prefixed
from study.compare.section import Section, Table, amount, fixed
from study.compare.tuned import Setting

COSTS = {"model_flops": "FLOPs", "tokens": "tokens", "seconds": "seconds of training"}
SIZES = {"parameters": "parameters"}


def pareto(contest: Contest) -> Section:
    """All settings of all arms by cost and loss."""
    key, title = "pareto", "Quality against cost"
    pairs = [(arm.name, s) for arm in contest.arms for s in arm.settings]
    cost = _cost(contest, pairs)
    if not cost:
        why = "The runs do not tell what they cost, or all cost the same."
        return Section(key, title, absent=why)
    costs = np.array([_amount(setting, cost) for _, setting in pairs])
    losses = np.array([setting.loss for _, setting in pairs])
    front = on_front(costs, losses)
    if not front.any():
        return Section(key, title, absent="All settings have runs that diverged.")
    worst = _beyond(costs), _beyond(losses[np.isfinite(losses)])
    data: dict[str, Any] = {"cost": cost, "worst": [worst[0], contest.sign * worst[1]]}
    data["settings"] = [
        {
            "arm": name,
            "setting": dict(setting.values),
            "cost": float(spent),
            "value": contest.sign * float(loss),
            "on_front": bool(is_on),
        }
        for (name, setting), spent, loss, is_on in zip(
            pairs, costs, losses, front, strict=True
        )
    ]
    names = np.array([name for name, _ in pairs])
    data["hypervolume"] = {
        arm.name: hypervolume(
            costs[names == arm.name], losses[names == arm.name], worst
        )
        for arm in contest.ranked
    }
    best = sorted(
        (one for one in data["settings"] if one["on_front"]),
        key=lambda one: (one["cost"], contest.sign * one["value"]),
    )
    rows = [
        [
            one["arm"],
            described(one["setting"]) or "as it was run",
            amount(one["cost"]),
            fixed(one["value"], contest.digits),
        ]
        for one in best
    ]
    word = {**COSTS, **SIZES}[cost]
    volumes = [[name, amount(v)] for name, v in data["hypervolume"].items()]
    reading = (
        f"Each dot is a setting, the mean over its seeds, at its {word}. Coloured are "
        "those on the front: none is as good in both and better in one. The "
        "hypervolume is the area between an arm's own front and a corner a tenth "
        f"beyond the worst cost and {contest.metric} of all: more is better."
    )
    if cost == "seconds":
        reading += " Trials that are trained together share their seconds."
    alt = f"{contest.metric} against {word}; {front.sum()} of {front.size} on the front"
    drawn = picture(_scatter(contest, data, word), alt, height=3.4, width=6.8)
    tables = [
        Table(
            ["arm", "setting", word, contest.metric], rows, "The front", ("setting",)
        ),
        Table(["arm", "hypervolume"], volumes),
    ]
    return Section(key, title, reading, data, tables, [drawn])


def _beyond(values: np.ndarray) -> float:
    """A tenth of their range beyond the worst, so that the worst adds something too."""
    return float(np.max(values) + 0.1 * (np.ptp(values) or 1.0))


def _cost(contest: Contest, pairs: Sequence[tuple[str, Setting]]) -> str:
    """The first cost that all settings tell and in which they differ."""
    for cost in ("model_flops", "parameters", "tokens", "seconds"):
        found = [_amount(setting, cost) for _, setting in pairs]
        if all(x > 0 for x in found) and max(found) > 1.001 * min(found):
            return cost
    return ""


def _amount(setting: Setting, cost: str) -> float:
    """The mean of the runs that did not diverge, which end early; else of all."""
    runs = list(setting.runs.values())
    alive = [run for run in runs if not run.diverged] or runs
    return float(np.mean([run.amount(cost) for run in alive]))


def _scatter(contest: Contest, data: dict[str, Any], word: str) -> Callable:
    names = [arm.name for arm in contest.arms]

    def draw(axes) -> None:
        finite = [one for one in data["settings"] if math.isfinite(one["value"])]
        for one in finite:
            color = color_of(names, one["arm"]) if one["on_front"] else QUIET
            size = 9 if one["on_front"] else 5
            axes.plot(one["cost"], one["value"], "o", color=color, ms=size, alpha=0.8)
        for name in {one["arm"]: 0 for one in finite if one["on_front"]}:
            axes.plot([], [], "o", color=color_of(names, name), label=name)
        axes.plot([], [], "o", color=QUIET, ms=5, label="beaten by another")
        prefixed(axes)
        axes.set_xlabel(f"{word} of one run")
        axes.set_ylabel(contest.axis)
        legend_beside(axes)

    return draw
