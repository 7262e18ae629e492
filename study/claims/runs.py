"""The runs of a claim: what was chosen in each, its end and its curve."""

import math
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from study.arms import Arm
from study.edge import Edge, edges
from study.forks import Grown
from study.outcomes import DONE, ENDED, FAILED, METRIC, Outcome
from study.point import Point
from study.space import Space
from train.logs import read_json, read_metrics


class Run(NamedTuple):
    """A run that has ended. `loss` is its last on validation; inf, it diverged.

    `picks` are the words and values chosen, by place of the space; `lines` those of
    `metrics.jsonl`. A branch has the point of its trunk, and its own keys in `picks`.
    """

    point: Point
    picks: Mapping[str, Any]
    loss: float
    num_steps: int
    lines: Sequence[Mapping[str, Any]]
    folder: pathlib.Path = pathlib.Path()

    @property
    def curve(self) -> dict[int, float]:
        """The losses on validation, by step."""
        return {line["step"]: line[METRIC] for line in self.lines if METRIC in line}

    def values(self, prefix: str) -> list[float]:
        """All that was logged under names that begin so."""
        return [
            value
            for line in self.lines
            for name, value in line.items()
            if name.startswith(prefix)
        ]


class Setting(NamedTuple):
    """The runs that have all but their seed in common."""

    runs: Mapping[int, Run]

    @property
    def first(self) -> Run:
        """One of them."""
        return next(iter(self.runs.values()))

    @property
    def losses(self) -> dict[int, float]:
        """By seed."""
        return {seed: run.loss for seed, run in self.runs.items()}

    @property
    def mean(self) -> float:
        """The mean loss; inf where one diverged."""
        return statistics.fmean(self.losses.values())

    def by_seed(self, score: Callable[[Run], float]) -> dict[int, float]:
        """A score of each run."""
        return {seed: score(run) for seed, run in self.runs.items()}


class Runs(NamedTuple):
    """The runs of a sweep, and the space that they are from."""

    space: Space
    runs: Sequence[Run]

    def having(self, wanted: Mapping[str, Any]) -> "Runs":
        """Those with these words, by place, or values, by key."""
        kept = [
            run
            for run in self.runs
            if all(
                run.picks.get(key, run.point.overrides.get(key)) == value
                for key, value in wanted.items()
            )
        ]
        if not kept:
            raise ValueError(f"The sweep has no runs with {dict(wanted)}.")
        return self._replace(runs=kept)

    @property
    def settings(self) -> list[Setting]:
        """The settings, in the order of the runs."""
        found: dict[str, dict[int, Run]] = {}
        for run in self.runs:
            found.setdefault(run.point.setting, {})[run.point.seed] = run
        return [Setting(runs) for runs in found.values()]

    @property
    def best(self) -> Setting:
        """The setting of the lowest mean loss."""
        return min(self.settings, key=lambda setting: setting.mean)

    def num_settings(self, baseline: "Runs") -> int:
        """Of which the best is; less than the baseline has is no advantage."""
        return max(len(self.settings), len(baseline.settings))

    @property
    def edges(self) -> list[Edge]:
        """Where the best setting is the last that was tried."""
        tried = [run.point for run in self.runs]
        return edges(self.space, self.best.first.point, tried)

    def along(self, key: str) -> dict[Any, Setting]:
        """The settings by their value of a key, rising; there is one of each."""
        found = {s.first.point.overrides[key]: s for s in self.settings}
        assert len(found) == len(self.settings), f"{key} does not tell settings apart"
        return dict(sorted(found.items()))


def arm(
    name: str,
    scores: Mapping[int, float],
    edges: Iterable[Edge] = (),
    num_settings: int = 1,
) -> Arm:
    """An arm of the runs of one sweep, all of which went to the end.

    Its best is of `num_settings`, of which both arms of a comparison must have as many.
    """
    budget = {"settings": num_settings}
    ends = {"read_step": 0, "end_step": 0}
    return Arm(name=name, scores=scores, edges=list(edges), budget=budget, **ends)


def runs_of(
    space: Space, outcomes: Iterable[Outcome], grown: Iterable[Grown] = ()
) -> Runs:
    """The runs of a sweep that has ended, and the branches of some.

    Raises:
      ValueError: one has not, or could not be run, which is no result.
    """
    runs = [_run(space, outcome, outcome, {}) for outcome in outcomes]
    runs += [_run(space, of.trunk, of.branch, of.keys) for of in grown]
    return Runs(space, runs)


def _run(
    space: Space, trunk: Outcome, outcome: Outcome, keys: Mapping[str, Any]
) -> Run:
    if outcome.state not in ENDED:
        raise ValueError(f"{outcome.folder} has not ended: run the claim again.")
    if outcome.state == FAILED:
        why = read_json(outcome.folder / "failed.json").get("reason", "")
        raise ValueError(
            f"{outcome.folder} could not be run: {why} Remove it and run the claim "
            "again."
        )
    picks = space.retrace(trunk.point.overrides)
    assert picks is not None, trunk.point
    done = outcome.state == DONE and math.isfinite(outcome.value)
    loss = outcome.value if done else math.inf
    logged = (outcome.folder / "metrics.jsonl").is_file()
    lines = read_metrics(outcome.folder) if logged else []
    place = outcome.folder
    return Run(trunk.point, {**picks, **keys}, loss, outcome.steps, lines, place)
