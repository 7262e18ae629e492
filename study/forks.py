"""Branches of the trials of a sweep: many in one program, as its trials are.

SWEEP/branches/trials/NAME/...    the folder of a branch, which is a trial, too
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from core.types import Config
from data.prepare import prepare
from study import outcomes, sweep, trunk
from study.outcomes import DONE, ENDED, Outcome
from study.point import Point
from study.search.wanted import Wish
from train.assemble import put_together
from train.folder import Folder, locked
from train.trials import trial_mesh

FOLDER = "branches"


class Forks(NamedTuple):
    """What is forked from each trial that has `word` at the place `of` of the space.

    Each of `forks` has the `step` that it goes on from, and values by key.
    """

    of: str
    word: str
    forks: Sequence[Mapping[str, Any]]


class Grown(NamedTuple):
    """A branch that has ended, its trunk, and the keys that it has otherwise.

    A trunk that diverged has none: there `branch` is the trunk itself.
    """

    trunk: Outcome
    branch: Outcome
    keys: Mapping[str, Any]


def grow(
    config: Config,
    folder: pathlib.Path,
    trunks: Sequence[Outcome],
    forks: Sequence[Mapping[str, Any]],
    command: Sequence[str],
) -> list[Grown]:
    """Branches trials that have ended and trains the branches, or goes on with them.

    Raises:
      ValueError: a trunk has no checkpoint of a step, or its state does not fit.
      Stop: asked to leave, or the disk is full; the same call goes on.
    """
    below, prepared = folder / FOLDER, prepare(config)
    planned: list[tuple[Outcome, Point, Mapping[str, Any]]] = []
    with locked(below):
        for one in trunks:
            for fork in forks:
                keys = {key: fork[key] for key in fork if key != "step"}
                point = Point(one.point.overrides | keys, one.point.seed)
                planned.append((one, point, keys))
                if one.state == DONE:
                    own = sweep.configured(config, point)
                    parts = put_together(own, prepared, trial_mesh())
                    place = outcomes.trial_folder(below, point)
                    trunk.branch(Folder(one.folder), fork["step"], parts, place)
                    outcomes.add(below, point)
        there = outcomes.read(below)
        left = [Wish(x.point, sys.maxsize) for x in there if x.state not in ENDED]
        sweep.train(config, below, left, command)
    found = outcomes.by_id(outcomes.read(below))
    return [
        Grown(one, found[point.id] if one.state == DONE else one, keys)
        for one, point, keys in planned
    ]
