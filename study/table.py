"""The table of a sweep: a line a trial in `table.csv`; the best settings in words."""

import csv
import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from study.intervals import interval
from study.outcomes import DIVERGED, ENDED, FAILED, METRIC, Outcome
from train.logs import write_bytes

SHOWN = 10  # settings that are told


def write(sweep: pathlib.Path, outcomes: Sequence[Outcome]) -> pathlib.Path:
    """Writes `table.csv`, which follows from the run folders alone."""
    keys = list(dict.fromkeys(key for x in outcomes for key in x.point.overrides))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["trial", *keys, "seed", "state", "steps", METRIC, "seconds"])
    for outcome in outcomes:
        values = [outcome.point.overrides.get(key, "") for key in keys]
        seconds = outcome.summary.get("seconds", "")
        lines.writerow(
            [
                outcome.folder.name,
                *values,
                outcome.point.seed,
                outcome.state,
                outcome.steps,
                "" if math.isnan(outcome.value) else outcome.value,
                seconds if seconds == "" else round(seconds, 3),
            ]
        )
    path = sweep / "table.csv"
    write_bytes(path, text.getvalue().encode())
    return path


def ranked(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The settings, each as its trials, the lowest mean first.

    A trial that diverged or failed makes it infinite; a setting of which not all trials
    have ended is left out.
    """
    settings: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        settings.setdefault(outcome.point.setting, []).append(outcome)
    whole = [
        trials
        for trials in settings.values()
        if all(trial.state in ENDED for trial in trials)
    ]
    return sorted(whole, key=lambda trials: float(np.mean(losses(trials))))


def losses(trials: Sequence[Outcome]) -> list[float]:
    """Their values, infinite where there is none."""
    return [math.inf if math.isnan(trial.value) else trial.value for trial in trials]


def told(outcomes: Sequence[Outcome]) -> list[str]:
    """The best settings, a line each, and what did not go well."""
    lines = [
        f"{METRIC} {interval(losses(trials))}, n={len(trials)}"
        + "".join(f"  {key}={_brief(v)}" for key, v in _differing(trials, outcomes))
        for trials in ranked(outcomes)[:SHOWN]
    ]
    states = [outcome.state for outcome in outcomes]
    return lines + [
        f"{states.count(state)} of {len(states)} trials {state}."
        for state in (DIVERGED, FAILED)
        if state in states
    ]


def _differing(trials: Sequence[Outcome], outcomes: Sequence[Outcome]):
    """The overrides of a setting that are not those of all."""
    own = trials[0].point.overrides
    return [
        (key, value)
        for key, value in own.items()
        if any(x.point.overrides.get(key) != value for x in outcomes)
    ]


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
