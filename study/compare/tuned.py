"""Arms out of runs: what tells them apart, over what each was tuned, its best setting.

An arm is all runs with the same values of the keys that name it. What else differs
among them was tuned; a setting is one choice of it, with a run of each seed. The best
setting is the one whose runs diverged least and then scored best in the mean, among
those that have all seeds of the arm: fewer seeds are luckier.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from core.registry import Range, under
from study.arms import Arm
from study.compare.naming import Runs, counts, differing, distinct, is_number
from study.compare.runs import Run
from study.edge import Edge, edges
from study.losses import Better, losses_of
from study.point import Point
from study.space import Axis, Branch, Space, Values
from train.schema import SCHEMA


@dataclasses.dataclass(frozen=True)
class Setting:
    """One choice of what was tuned, and its runs by seed.

    `mean` is of the losses of the runs that did not diverge, NaN where all did.
    """

    values: Mapping[str, Any]
    runs: Mapping[int, Run]
    losses: Mapping[int, float]

    @property
    def num_diverged(self) -> int:
        """Of its runs."""
        return sum(math.isinf(loss) for loss in self.losses.values())

    @property
    def mean(self) -> float:
        """Less is better."""
        finite = [loss for loss in self.losses.values() if math.isfinite(loss)]
        return float(np.mean(finite)) if finite else math.nan

    @property
    def loss(self) -> float:
        """The mean in which a run that diverged counts as infinite."""
        return math.inf if self.num_diverged else self.mean


@dataclasses.dataclass(frozen=True)
class Tuned:
    """An arm with all that it was tuned over; `arm` is it at its best setting."""

    arm: Arm
    settings: Sequence[Setting]
    best: Setting
    keys: Sequence[str]  # that were tuned
    num_short: int  # settings that lack seeds, and so could not be the best
    twice: Sequence[Run]  # of a setting and a seed that were there already

    @property
    def name(self) -> str:
        """Of the arm."""
        return self.arm.name

    @property
    def runs(self) -> list[Run]:
        """Of all settings."""
        return [run for setting in self.settings for run in setting.runs.values()]

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the best setting."""
        return next(iter(self.best.runs.values())).config


def tuned(name: str, runs: Runs, metric: str, better: Better) -> Tuned:
    """The arm of these runs, at its best setting."""
    keys = [key for key in differing(runs) if counts(key)]
    groups: dict[str, dict[int, Run]] = {}
    twice = []
    for run in runs:
        values = str([run.config.get(key) for key in keys])
        group = groups.setdefault(values, {})
        if run.seed in group:
            twice.append(run)
        else:
            group[run.seed] = run
    settings = [_setting(group, keys, metric, better) for group in groups.values()]
    most = max(len(setting.runs) for setting in settings)
    whole = [setting for setting in settings if len(setting.runs) == most]
    best = min(whole, key=rank)
    alive = [run for run in best.runs.values() if not run.diverged]
    alive = alive or list(best.runs.values())
    arm = Arm(
        name=name,
        scores={seed: run.score(metric) for seed, run in best.runs.items()},
        edges=_edges(best, settings),
        budget=_budget(len(settings), best, alive),
        read_step=min(run.read_step(metric) for run in alive),
        end_step=max(run.end_step for run in alive),
    )
    return Tuned(arm, settings, best, keys, len(settings) - len(whole), twice)


def _setting(
    runs: Mapping[int, Run], keys: Sequence[str], metric: str, better: Better
) -> Setting:
    seeds = sorted(runs)
    config = runs[seeds[0]].config
    losses = losses_of([runs[seed].score(metric) for seed in seeds], better).tolist()
    return Setting(
        {key: config[key] for key in keys if key in config},
        {seed: runs[seed] for seed in seeds},
        dict(zip(seeds, losses, strict=True)),
    )


def rank(setting: Setting) -> tuple[int, float]:
    """By which the best setting is the least: first by how many runs diverged."""
    return setting.num_diverged, setting.mean if setting.mean == setting.mean else 0.0


def _budget(num_settings: int, best: Setting, alive: Sequence[Run]) -> dict[str, float]:
    """What must be the same for all arms: how far each was tuned, how long trained."""
    budget = {
        "settings": num_settings,
        "seeds": len(best.runs),
        "steps": max(run.steps for run in alive),
        "tokens": float(np.median([run.amount("tokens") for run in alive])),
    }
    return {name: value for name, value in budget.items() if not math.isnan(value)}


def _edges(best: Setting, settings: Sequence[Setting]) -> list[Edge]:
    """Where the best number is the last that was tried, with the same words chosen."""
    numbers = [key for key, value in best.values.items() if is_number(value)]
    words = {k: v for k, v in best.values.items() if k not in numbers}
    alike = [
        setting.values
        for setting in settings
        if setting.values.keys() == best.values.keys()
        and all(setting.values[key] == value for key, value in words.items())
        and all(is_number(setting.values[key]) for key in numbers)
    ]
    axes = [
        Axis(key, key, Values(tuple(distinct(values[key] for values in alike))))
        for key in numbers
    ]
    config = next(iter(best.runs.values())).config
    space = Space(Branch({}, tuple(axes)), (), _ranges(config, numbers))
    point, *tried = (
        Point({key: values[key] for key in numbers}, 0)
        for values in (best.values, *alike)
    )
    return edges(space, point, tried)


def _ranges(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Range]:
    """How far the values of the keys may go at all, by key, where that is known."""
    ranges = {}
    for key in keys:
        where, _, leaf = key.rpartition(".")
        name = under(where, "name")
        part = {"name": config[name]} if name in config else {}
        with contextlib.suppress(KeyError, ValueError):  # of a run of other code
            ranges[key] = SCHEMA[where].entry(part, where).ranges[leaf]
    return ranges
