"""How tuning went: the sensitivity to the learning rate, the best of k trials."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from study.budget import basin, best_of, rate_sensitivity
from study.compare.contest import Contest
from study.compare.naming import is_number
from study.compare.plots import LOST, color_of, legend_beside, log_rate, picture
from study.compare.section import NONE, TIMES, Section, Shown, Table, count, fixed
from study.compare.tuned import Setting, Tuned

RATE = "schedule.peak"  # how the key of a learning rate ends


def initial_loss(contest: Contest) -> float:
    """Before training, as far as logs tell: the median of the first training losses.

    Infinite where none was logged in the first quarter of a run, for a later one may be
    below what validation ends at; and where the metric is no loss.
    """
    if not contest.metric.endswith("loss"):
        return math.inf
    runs = [run for arm in contest.arms for run in arm.runs]
    first = [
        line["loss"]
        for run in runs
        for line in run.curve[:1]
        if line["step"] <= run.end_step / 4
        and math.isfinite(line.get("loss", math.nan))
    ]
    return float(np.median(first)) if first else math.inf


def sensitivity(contest: Contest) -> Section:
    """How the loss depends on the learning rate, and how wide the good rates are."""
    key, title = "rate_sensitivity", "Sensitivity to the learning rate"
    key_of = {arm.name: _rate_key(arm) for arm in contest.ranked}
    arms = [arm for arm in contest.ranked if key_of[arm.name]]
    if not arms:
        return Section(key, title, absent="No arm was tuned in its learning rate.")
    start = initial_loss(contest)
    grids = {arm.name: _by_rate(arm, key_of[arm.name]) for arm in arms}
    facts = [_sensitivity(n, grid, start, contest) for n, grid in grids.items()]
    data = {"initial": start, "within_share": 0.01, "arms": facts}
    rows = []
    for one in facts:
        wide = f"{one['low']:.2g}{_open(one['open_low'])} to {one['high']:.2g}"
        rows.append(
            [
                one["name"],
                count(one["num_rates"]),
                _rate(one["best_rate"]),
                fixed(one["sensitivity"], 3),
                fixed(one["decades"], 2),
                wide + _open(one["open_high"]) if one["decades"] >= 0 else NONE,
            ]
        )
    heads = ["arm", "rates", "best rate", "sensitivity", "basin, decades", "basin"]
    reading = (
        "Each dot is a run; a line goes through the means of the best setting at each "
        "rate, and a ring is around the best. Sensitivity is what a rate of the grid "
        "costs in the mean against the best, in units of the metric; the basin are the "
        "rates within 1 % of the best loss, open (…) where the grid ends inside it. "
        "Flat and wide is easy to tune."
    )
    notes = []
    if math.isfinite(start):
        notes = [
            f"No run counts worse than {start:.2f}, the first loss that was logged."
        ]
    drawn = picture(
        _rates(contest, grids, start),
        f"{contest.metric} by learning rate for {', '.join(grids)}",
        height=3.9,
        width=7.4,
    )
    return Section(key, title, reading, data, [Table(heads, rows)], [drawn], notes)


def _rate(value: float) -> Shown:
    return Shown(value, f"{value:.3g}" if value == value else NONE)


def _open(is_open: bool) -> str:
    return "…" if is_open else ""


def _rate_key(arm: Tuned) -> str:
    ends = [key for key in arm.keys if key.endswith(RATE)]
    tried = {key: {s.values.get(key) for s in arm.settings} for key in ends}
    return next((key for key in ends if all(map(is_number, tried[key]))), "")


def _by_rate(arm: Tuned, key: str) -> dict[float, Setting]:
    """The best setting of each rate."""
    rates = sorted({setting.values[key] for setting in arm.settings})
    return {
        rate: min(
            (s for s in arm.settings if s.values[key] == rate),
            key=lambda s: (s.loss, s.num_diverged),
        )
        for rate in rates
    }


def _sensitivity(
    name: str, grid: dict[float, Setting], start: float, contest: Contest
) -> dict[str, Any]:
    rates, losses = list(grid), [setting.loss for setting in grid.values()]
    best = rates[int(np.argmin(losses))] if min(losses) < math.inf else math.nan
    found = {"low": math.nan, "high": math.nan, "decades": math.nan}
    found |= {"open_low": False, "open_high": False}
    if contest.better == "lower" and 0 < min(losses) < math.inf and min(rates) > 0:
        found = basin(rates, losses)._asdict()
    mean = rate_sensitivity(losses, start) if math.isfinite(min(losses)) else math.nan
    values = [contest.sign * loss for loss in losses]
    seeds = [
        {str(seed): contest.sign * loss for seed, loss in setting.losses.items()}
        for setting in grid.values()
    ]
    facts = {"name": name, "num_rates": len(rates), "rates": rates}
    facts |= {"means": values, "seeds": seeds}
    return facts | {"best_rate": best, "sensitivity": mean} | found


def _rates(contest: Contest, grids: dict[str, dict], start: float) -> Callable:
    names = [arm.name for arm in contest.arms]

    def draw(axes) -> None:
        finite, lost = [], []
        for name, grid in grids.items():
            color = color_of(names, name)
            alive = {
                r: contest.sign * s.mean for r, s in grid.items() if s.loss < math.inf
            }
            style = {"color": color, "linewidth": 1.8, "label": name}
            axes.plot([*alive], [*alive.values()], **style)
            if alive:
                best = min(alive, key=lambda rate: contest.sign * alive[rate])
                ring = {"mfc": "none", "mec": color, "mew": 1.8, "ms": 12}
                axes.plot(best, alive[best], "o", **ring)
            for rate, setting in grid.items():
                scores = [contest.sign * v for v in setting.losses.values()]
                scores = [score for score in scores if math.isfinite(score)]
                axes.plot([rate] * len(scores), scores, "o", color=color, alpha=0.5)
                finite += scores
            gone = {r: s.num_diverged for r, s in grid.items() if s.num_diverged}
            lost += [(name, gone)] if gone else []
        low, high = min(finite, default=0), max(finite, default=1)
        if contest.better == "lower":
            high = min(high, start)
        room = high - low or 1.0
        axes.set_ylim(low - 0.06 * room, high + (0.08 + 0.1 * len(lost)) * room)
        for place, (name, gone) in enumerate(lost):
            for rate, number in gone.items():
                at = {"xycoords": ("data", "axes fraction"), "ha": "center"}
                style = {"color": color_of(names, name), "va": "top", "weight": "bold"}
                where = (rate, 0.99 - 0.075 * place)
                axes.annotate(f"{number}{TIMES}", where, **at, **style)
        if lost:
            title = f"2{TIMES} at the top: two runs diverged at this rate"
            axes.set_title(title, color=LOST)
        log_rate(axes, "learning rate")
        axes.set_ylabel(contest.axis)
        legend_beside(axes)

    return draw


def best_of_k(contest: Contest) -> Section:
    """What the best of k trials has: how much tuning an arm needs."""
    key, title = "best_of", "Expected best of k trials"
    arms = [arm for arm in contest.ranked if len(arm.settings) > 1]
    if not arms:
        return Section(key, title, absent="No arm was tuned: each has one setting.")
    ceiling, data = initial_loss(contest), []
    for arm in arms:
        losses = [setting.loss for setting in arm.settings]
        sizes = range(1, len(losses) + 1)
        found = [best_of(losses, k, ceiling=ceiling) for k in sizes]
        sides = ("expected", "median", "low", "high")
        columns = {n: [contest.sign * getattr(b, n) for b in found] for n in sides}
        if contest.better == "higher":
            columns |= {"low": columns["high"], "high": columns["low"]}
        data.append({"name": arm.name, "k": list(sizes), **columns})
    most = max(len(arm.settings) for arm in arms)
    shown = sorted({k for k in (1, 2, 3, 5, 8, 16, 32, 64, 128, most) if k <= most})
    rows = [
        [
            one["name"],
            *(
                fixed(one["expected"][k - 1], contest.digits) if k in one["k"] else ""
                for k in shown
            ),
        ]
        for one in data
    ]
    reading = (
        f"The {contest.metric} one can expect from the best of k settings drawn at "
        "random from those tried (each the mean over its seeds). An arm whose curve is "
        "low from the left on is easy to tune; bands are 95 % intervals of the median "
        "best, where the settings are enough to have one."
    )
    drawn = picture(
        lambda axes: _draw_best(axes, contest, data),
        f"Expected best {contest.metric} of k trials",
        height=3.4,
        width=6.2,
    )
    heads = ["arm", *(f"k = {k}" for k in shown)]
    note = (
        "It is as good as the settings are random; those of a grid are spread evenly."
    )
    if any(setting.num_diverged for arm in arms for setting in arm.settings):
        worst = fixed(contest.sign * ceiling, 2).text
        note += f" A setting with a run that diverged counts as {worst}."
    return Section(key, title, reading, data, [Table(heads, rows)], [drawn], [note])


def _draw_best(axes, contest: Contest, data: Sequence[dict[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    names = [arm.name for arm in contest.arms]
    for one in data:
        color = color_of(names, one["name"])
        finite = np.isfinite(one["low"]) & np.isfinite(one["high"])
        band = {"where": finite, "color": color, "alpha": 0.13, "linewidth": 0}
        axes.fill_between(one["k"], one["low"], one["high"], **band)
        style = {"color": color, "marker": "o", "ms": 4.5, "linewidth": 1.8}
        axes.plot(one["k"], one["expected"], label=one["name"], **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("settings tried, k")
    axes.set_ylabel(f"best {contest.axis}")
    legend_beside(axes)
