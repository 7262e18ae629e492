"""Which axes of a sweep make the difference, as its space and its trials tell."""

import functools
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from study import checked
from study.compare.contest import Contest
from study.compare.naming import brief
from study.compare.plots import COLORS, picture
from study.compare.runs import SWEEP
from study.compare.section import Section, Table, share
from study.point import Point
from study.search import tpe
from train.logs import read_json
from train.schema import SCHEMA


def importance(contest: Contest) -> Section:
    """Which axes of a sweep make the difference."""
    key, title = "importance", "What mattered in the sweep"
    if not contest.found.sweeps:
        return Section(key, title, absent="The runs are of no sweep, so of no space.")
    data, why, doubted = [], "", False
    for folder in contest.found.sweeps:
        try:
            stated = read_json(folder / SWEEP)
            config = _restored(stated["config"])
            space = checked.read(stated["space"], config, SCHEMA)
            with warnings.catch_warnings(record=True) as doubts:
                warnings.simplefilter("always")
                shares = tpe.importance(space, list(_records(contest, folder)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{folder.name}: {error}"
            continue
        if not shares:
            why = f"{folder.name}: no axis is in all of its points."
            continue
        doubted |= bool(doubts)
        data.append({"sweep": folder.name, "shares": shares})
    if not data:
        return Section(key, title, absent=why)
    rows = [
        [one["sweep"], brief(place), share(value)]
        for one in data
        for place, value in one["shares"].items()
    ]
    reading = (
        "How much each axis of the sweep explains of what sets the best tenth of its "
        "settings apart (PED-ANOVA), in shares of 1."
    )
    bars = [(brief(p), v) for one in data for p, v in one["shares"].items()]
    drawn = picture(
        functools.partial(_draw_bars, bars=bars),
        "Importance: " + ", ".join(f"{name} {value:.0%}" for name, value in bars),
        height=1.1 + 0.38 * len(bars),
        width=6.2,
    )
    heads = ["sweep", "axis", "share"]
    note = "Some axes have too few settings for it: their shares are inexact."
    notes = [note] if doubted else []
    return Section(key, title, reading, data, [Table(heads, rows)], [drawn], notes)


def _records(contest: Contest, sweep: pathlib.Path) -> Iterator[tpe.Record]:
    """The trials of a sweep that have ended, by the metric as a loss."""
    for run in contest.found.runs:
        path = run.folder / "trial.json"  # a run without is none of its trials
        if run.folder.is_relative_to(sweep) and path.is_file():
            trial = read_json(path)
            point = Point(_restored(trial["overrides"]), trial["seed"])
            loss = contest.sign * run.score(contest.metric)
            yield tpe.Record(point, tpe.DONE, loss)


def _restored(config: Any) -> Any:
    """A config out of JSON, its lists tuples again."""
    if isinstance(config, dict):
        return {key: _restored(value) for key, value in config.items()}
    return tuple(map(_restored, config)) if isinstance(config, list) else config


def _draw_bars(axes, bars: Sequence[tuple[str, float]]) -> None:
    names, values = zip(*bars, strict=True)
    axes.barh(range(len(names)), [100 * v for v in values], color=COLORS[0], height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("% of what is explained")
