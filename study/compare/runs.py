"""The runs in some folders, as their files tell; what cannot be read is named.

A run that goes on, that was torn or that could not be run is no result: it is listed
with the reason and counted, and no verdict has it. A run that diverged is a result.
"""

import dataclasses
import functools
import itertools
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from core.refusal import nearest, shown
from core.types import Config
from train.folder import Folder
from train.logs import read_json, read_metrics

MARKS = ("config.json", "provenance.json", "trial.json")  # of a folder with a run
SWEEP = "sweep.json"
SEEDS = ("seed", "data.seed")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has ended.

    `config` is flat, by dotted key, without the seeds. `source` is the place among the
    paths under which it was found. `diverged` says why the guard ended it, if it did.
    """

    name: str
    folder: pathlib.Path
    source: int
    config: Mapping[str, Any]
    seed: int
    curve: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]
    diverged: str = ""

    @property
    def steps(self) -> int:
        """That were trained."""
        return self.summary["steps"]

    @property
    def end_step(self) -> int:
        """Of its schedule; one more than was trained where only that much is known."""
        if not self.summary.get("stopped_early", False):
            return self.steps
        return max(int(self.config.get("num_steps", 0)), self.steps + 1)

    def amount(self, name: str) -> float:
        """A number of the summary, such as tokens or seconds; NaN where it has none."""
        value = self.summary.get(name)
        return float(value) if isinstance(value, int | float) else math.nan

    def points(self, metric: str) -> list[Mapping[str, Any]]:
        """The lines of the curve that have the metric."""
        return [line for line in self.curve if _is_number(line.get(metric))]

    def has(self, metric: str) -> bool:
        """Whether it was scored by the metric, or would have been had it survived."""
        known = bool(self.points(metric)) or _is_number(self.summary.get(metric))
        return known or bool(self.diverged)

    def score(self, metric: str) -> float:
        """The last value of the metric; NaN of a run that diverged."""
        if self.diverged:
            return math.nan
        points = self.points(metric)
        return float(points[-1][metric] if points else self.summary[metric])

    def read_step(self, metric: str) -> int:
        """The step of the last value."""
        points = self.points(metric)
        return points[-1]["step"] if points else self.steps


class Unread(NamedTuple):
    """A folder that holds a run of which nothing can be told, and why."""

    name: str
    why: str


class Found(NamedTuple):
    """What the paths hold: runs, what is none yet, and the folders of sweeps."""

    runs: list[Run]
    unread: list[Unread]
    sweeps: list[pathlib.Path]


def read(paths: Sequence[str]) -> Found:
    """The runs under the paths, each once; a path may be a run itself.

    Raises:
      ValueError: a path is no folder, holds no run, or is given twice.
    """
    if not paths:
        raise ValueError("compare: no folder is given; name one that holds runs.")
    found, seen = Found([], [], []), set[pathlib.Path]()
    for source, text in enumerate(paths):
        path = pathlib.Path(text)
        if not path.is_dir():
            raise ValueError(f"{shown(text, 120)} is no folder.{_sibling(path)}")
        if any(path.samefile(other) for other in paths[:source]):
            raise ValueError(f"{shown(text, 120)} is given twice.")
        folders = list(_folders(path, found.sweeps))
        if not folders:
            raise ValueError(f"{shown(text, 120)} holds no run.{_sibling(path)}")
        for folder in folders:
            if (whole := folder.resolve()) not in seen:
                seen.add(whole)
                name = _name(path, folder)
                one = _read_one(folder, name, source)
                (found.runs if isinstance(one, Run) else found.unread).append(one)  # pyright: ignore[reportArgumentType]
    return found


def _folders(path: pathlib.Path, sweeps: list[pathlib.Path]) -> Iterator[pathlib.Path]:
    """Those of runs at and under `path`, in order; what is inside a run is its own."""
    for place, below, files in os.walk(path):
        folder = pathlib.Path(place)
        if SWEEP in files and not any(folder.samefile(sweep) for sweep in sweeps):
            sweeps.append(folder)
        if not set(MARKS).isdisjoint(files):
            below.clear()
            yield folder
        below.sort()


def _name(path: pathlib.Path, folder: pathlib.Path) -> str:
    below = folder.relative_to(path).parts
    parts = [part for part in below if part != "trials"]
    return "/".join([path.resolve().name, *parts])


def _sibling(path: pathlib.Path) -> str:
    parent = path.absolute().parent
    if not parent.is_dir():
        return ""
    others = [p.name for p in parent.iterdir() if p.is_dir() and p != path.absolute()]
    return nearest(path.absolute().name, others)


def _read_one(path: pathlib.Path, name: str, source: int) -> Run | Unread:
    folder = Folder(path)
    try:
        if (path / "failed.json").is_file():
            failed = read_json(path / "failed.json")
            return Unread(name, f"could not be run: {failed.get('reason', '')}")
        if not folder.config.is_file():
            return Unread(name, "was not begun")
        config, summary = folder.read_config(), folder.read_summary()
        if not isinstance(summary.get("steps"), int):
            return Unread(name, "has not ended")
        curve = read_metrics(path) if (path / "metrics.jsonl").is_file() else []
        if fallen := _fallen(curve):
            return Unread(name, f"is damaged: {fallen} falls from line to line")
        known = folder.provenance.is_file()
        provenance = dict(read_json(folder.provenance)) if known else {}
        flat = flattened(config)
        seed = int(flat["seed"])
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        return Unread(name, f"is damaged: {error}")
    kept = {key: value for key, value in flat.items() if key not in SEEDS}
    diverged = str(summary.get("diverged", ""))
    return Run(name, path, source, kept, seed, curve, summary, provenance, diverged)


def _fallen(curve: Sequence[Mapping[str, Any]]) -> str:
    """What a curve counts that falls from line to line, as in no run; or nothing."""
    for name in ("step", "tokens", "seconds"):
        values = [line[name] for line in curve if _is_number(line.get(name))]
        if any(after < before for before, after in itertools.pairwise(values)):
            return name
    return ""


def flattened(config: Config, prefix: str = "") -> dict[str, Any]:
    """A nested config by dotted key.

    >>> flattened({"optim": {"rule": {"name": "adam"}}, "seed": 0})
    {'optim.rule.name': 'adam', 'seed': 0}
    """
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def scored(found: Found, metric: str) -> Found:
    """The runs that have the metric; the others join what is unread.

    Raises:
      ValueError: no run has it.
    """
    runs = [run for run in found.runs if run.has(metric)]
    if not any(run.points(metric) or metric in run.summary for run in runs):
        refuse_metric(found, metric)
    lacking = [
        Unread(run.name, f"has no {metric}")
        for run in found.runs
        if not run.has(metric)
    ]
    return found._replace(runs=runs, unread=[*found.unread, *lacking])


def refuse_metric(found: Found, metric: str) -> None:
    """Says which metrics there are, or that no run has ended."""
    if not found.runs:
        first = found.unread[0]
        raise ValueError(
            f"None of {len(found.unread)} runs has ended: {first.name} {first.why}."
        )
    names = [_metrics_of(run) for run in found.runs]
    known = sorted(functools.reduce(set.union, names, set()))
    raise ValueError(
        f"metric={shown(metric)}: no run has it.{nearest(metric, known)} "
        f"Known: {shown(known, 90)}."
    )


def _metrics_of(run: Run) -> set[str]:
    scores = {key for line in run.curve for key in line if key.startswith("val_")}
    return {name for name in scores if not name.endswith("objective")}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
