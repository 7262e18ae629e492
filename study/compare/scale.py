"""How the loss falls with compute, where an arm was run at several sizes or lengths."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from study import scaling
from study.compare.contest import Contest
from study.compare.plots import color_of, legend_beside, picture, prefixed
from study.compare.section import Cell, Section, Table, count, fixed, span
from study.compare.tuned import Setting

LEAST = 4  # amounts of compute; a power law has three coefficients
SAME_SHARE = 0.01  # amounts that differ by less are the same
LAW = "power"


class Scaled(NamedTuple):
    """The best runs of each amount of compute, and the law through them, with draws."""

    name: str
    flops: Sequence[float]
    losses: Sequence[float]
    num_amounts: int
    law: scaling.Fit
    draws: dict[str, np.ndarray]


def law_of_compute(contest: Contest) -> Section:
    """A law of the loss in compute, for each arm that shows one."""
    key, title = "scaling", "Scaling law"
    if not contest.metric.endswith("loss"):
        return Section(key, title, absent=f"{contest.metric} is no loss.")
    groups = {arm.name: arm.settings for arm in contest.ranked}
    if all(len(_amounts(settings)) < LEAST for settings in groups.values()):
        groups = {"all arms": [s for arm in contest.ranked for s in arm.settings]}
    found = [_scaled(name, settings) for name, settings in groups.items()]
    found = [one for one in found if one is not None]
    if not found:
        told = f"It takes runs of {LEAST} amounts of compute, to the end of each."
        return Section(key, title, absent=told)
    data = [_facts(one) for one in found]
    rows = [
        [
            one["name"],
            count(one["num_amounts"]),
            *(
                cell
                for name in ("alpha", "E")
                for cell in _with_span(one["coefficients"], one["intervals"], name)
            ),
        ]
        for one in data
    ]
    heads = ["arm", "amounts", "exponent", "95 % interval", "limit", "95 % interval"]
    reading = (
        "Each dot is a run of the best setting at its amount of compute C; the line is "
        "the law E + A C^-exponent, and the band the middle 95 % of 200 fits to runs "
        "drawn anew. It holds for the way in which these runs were made larger, and no "
        "further than the band is narrow."
    )
    names = ", ".join(one.name for one in found)
    alt = f"{contest.metric} over FLOPs with a fitted law and its band, for {names}"
    drawn = picture(_laws(contest, found), alt, height=3.9, width=7.4)
    return Section(key, title, reading, data, [Table(heads, rows)], [drawn])


def _with_span(
    values: Mapping[str, float], spans: Mapping[str, tuple[float, float]], name: str
) -> tuple[Cell, Cell]:
    low, high = spans[name]
    return fixed(values[name], 3), span(low, high, 3)


def _flops(setting: Setting) -> float:
    """Of a run of it, in the mean; NaN where that is not told, or one did not end."""
    runs = setting.runs.values()
    if setting.num_diverged or any(run.steps != run.end_step for run in runs):
        return math.nan
    return float(np.mean([run.amount("model_flops") for run in runs]))


def _amounts(settings: Sequence[Setting]) -> list[Setting]:
    """The best setting of each amount of compute, from the least on."""
    known = [(_flops(setting), setting) for setting in settings]
    known = sorted([x for x in known if x[0] > 0], key=lambda x: x[0])
    groups: list[list[tuple[float, Setting]]] = []
    for flops, setting in known:
        if groups and flops <= groups[-1][0][0] * (1 + SAME_SHARE):
            groups[-1].append((flops, setting))
        else:
            groups.append([(flops, setting)])
    return [min((s for _, s in group), key=lambda s: s.mean) for group in groups]


def _scaled(name: str, settings: Sequence[Setting]) -> Scaled | None:
    """The law of some settings; None where they are of too few amounts of compute."""
    best = _amounts(settings)
    if len(best) < LEAST:
        return None
    runs = [(run, x.losses[seed]) for x in best for seed, run in x.runs.items()]
    flops = [run.amount("model_flops") for run, _ in runs]
    losses = [loss for _, loss in runs]
    law = scaling.fit(LAW, {"N": flops}, losses)
    draws = scaling.bootstrap(law, {"N": flops}, losses)
    return Scaled(name, flops, losses, len(best), law, draws)


def _facts(one: Scaled) -> dict[str, Any]:
    return {
        "name": one.name,
        "num_amounts": one.num_amounts,
        "model_flops": one.flops,
        "loss": one.losses,
        "coefficients": one.law.coefficients,
        "objective": one.law.objective,
        "intervals": {
            name: scaling.interval(draws).tolist() for name, draws in one.draws.items()
        },
    }


def _laws(contest: Contest, found: Sequence[Scaled]) -> Callable:
    names = [arm.name for arm in contest.arms]

    def draw(axes) -> None:
        from matplotlib.ticker import NullFormatter

        for one in found:
            color = color_of(names if one.name in names else [one.name], one.name)
            grid = np.geomspace(min(one.flops), 2 * max(one.flops), 60)
            sizes = {"N": grid}
            fitted = scaling.predict(LAW, one.law.coefficients, sizes)
            low, high = scaling.interval(scaling.predict(LAW, one.draws, sizes))
            axes.plot(one.flops, one.losses, "o", color=color, ms=4.5, alpha=0.7)
            axes.plot(grid, fitted, color=color, linewidth=1.8, label=one.name)
            axes.fill_between(grid, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        prefixed(axes)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("FLOPs of one run")
        axes.set_ylabel(contest.axis)
        legend_beside(axes)

    return draw
