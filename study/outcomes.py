"""What became of the trials of a sweep, as their run folders tell; nothing else knows.

SWEEP/sweep.json                what is searched, and how
SWEEP/trials/NAME/trial.json    which point this is
SWEEP/trials/NAME/...           an ordinary run folder
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from study.point import Point
from train.folder import Folder
from train.logs import read_json, read_metrics, write_json

NEW, RUNNING, DONE = "new", "running", "done"
DIVERGED, FAILED = "diverged", "failed"
ENDED = (DONE, DIVERGED, FAILED)

METRIC = "val_loss"


class Outcome(NamedTuple):
    """A trial: its point and what came of it so far.

    `state` is `new`, `running`, `done`, `diverged` or, where it could not be run,
    `failed`. `value` is the last validation loss of a trial that is done, else NaN.
    """

    point: Point
    folder: pathlib.Path
    state: str
    steps: int
    value: float
    summary: dict[str, Any]


def trial_folder(sweep: pathlib.Path, point: Point) -> pathlib.Path:
    """Where a point's run is kept."""
    return sweep / "trials" / point.name


def add(sweep: pathlib.Path, point: Point) -> None:
    """Makes the folder of a point's trial, if it is not there."""
    folder = trial_folder(sweep, point)
    if (folder / "trial.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"id": point.id, "setting": point.setting, "seed": point.seed}
    write_json(folder / "trial.json", facts | {"overrides": point.overrides})


def fail(folder: pathlib.Path, reason: str) -> None:
    """Gives a trial up that could not be run."""
    write_json(folder / "failed.json", {"reason": reason})


def read(sweep: str | pathlib.Path) -> list[Outcome]:
    """The trials of a sweep's folder, by name.

    Raises:
      ValueError: a file of one is no JSON; names it.
    """
    folders = sorted((pathlib.Path(sweep) / "trials").glob("*/trial.json"))
    return [outcome_of(path.parent) for path in folders]


def outcome_of(folder: pathlib.Path) -> Outcome:
    """What the folder of one trial says."""
    facts = read_json(folder / "trial.json")
    overrides = {key: _tuples(value) for key, value in facts["overrides"].items()}
    point, run = Point(overrides, facts["seed"]), Folder(folder)
    summary = run.read_summary()
    if summary:
        value = math.nan if DIVERGED in summary else summary[METRIC]
        state = DIVERGED if DIVERGED in summary else DONE
        return Outcome(point, folder, state, summary["steps"], value, summary)
    steps = max(scores_of(folder), default=0)
    state = RUNNING if run.provenance.is_file() else NEW
    if (folder / "failed.json").is_file():
        state = FAILED
    return Outcome(point, folder, state, steps, math.nan, {})


def scores_of(folder: pathlib.Path) -> dict[int, float]:
    """The validation losses of a run so far, by step."""
    if not (folder / "metrics.jsonl").is_file():
        return {}
    lines = read_metrics(folder)
    return {line["step"]: line[METRIC] for line in lines if METRIC in line}


def by_id(outcomes: list[Outcome]) -> Mapping[str, Outcome]:
    """The outcomes by the id of their points."""
    return {outcome.point.id: outcome for outcome in outcomes}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
