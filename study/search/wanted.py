"""What a search wants next, a pure function of what became of its trials so far.

So a sweep that is killed goes on as if it had not been.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.refusal import listed, nearest, shown
from study.outcomes import DIVERGED, DONE, ENDED, FAILED, Outcome, by_id, scores_of
from study.point import Point
from study.search import DRAWS, halving, tpe
from study.search.grid import grid
from study.space import Space

HALVING, HYPERBAND, TPE, GRID = "halving", "hyperband", "tpe", "grid"
SEARCHES = (GRID, *DRAWS, TPE, HALVING, HYPERBAND)


class Search(NamedTuple):
    """How a space is searched.

    `trials` are settings, each run with all seeds; 0 is all of the grid. `seed` is that
    of what is drawn. Halving keeps one of `factor` at each rung, the first of which is
    at `min_steps` at least. `parallel` are the settings that TPE asks for at once.
    """

    name: str = GRID
    trials: int = 0
    seed: int = 0
    factor: int = 3
    min_steps: int = 1
    parallel: int = 8


class Wish(NamedTuple):
    """A trial that is to be trained until it has had so many steps."""

    point: Point
    until: int


def stated(words: Mapping[str, str]) -> Search:
    """The search that the words of a command line mean, by the names of its fields.

    Raises:
      ValueError: one line.

    >>> stated({"search": "sobol", "trials": "16"}).trials
    16
    """
    numbers = {
        key: _number(key, text) for key, text in words.items() if key != "search"
    }
    search = Search(words.get("search", GRID), **numbers)
    check(search)
    return search


def _number(key: str, text: str) -> int:
    flag, least = f"--{key.replace('_', '-')}", {"seed": 0, "factor": 2}.get(key, 1)
    if not (text.isascii() and text.isdigit() and least <= int(text) < 2**31):
        raise ValueError(
            f"{flag}={shown(text)} must be a whole number of {least} or more."
        )
    return int(text)


def check(search: Search) -> None:
    """Refuses what is no search.

    Raises:
      ValueError: one line.
    """
    if search.name not in SEARCHES:
        raise ValueError(
            f"--search={shown(search.name)} is not known."
            f"{nearest(search.name, SEARCHES)} Known: {listed(SEARCHES)}."
        )
    if search.name in (*DRAWS, TPE) and search.trials < 1:
        raise ValueError(
            f"--search={search.name} needs --trials=N, the settings to try; each is "
            "run with all seeds."
        )
    if search.name in (GRID, HYPERBAND) and search.trials:
        raise ValueError(
            f"--trials={search.trials} is nothing to --search={search.name}, which "
            "knows by itself how many there are."
        )


def first_points(search: Search, space: Space, max_steps: int) -> list[Point]:
    """The points that are known before anything has run."""
    if search.name == TPE:
        return []
    if search.name == HYPERBAND:
        brackets = _brackets(search, space, max_steps)
        return [point for _, points in brackets for point in points]
    return _drawn(search, space)


def wanted(
    search: Search, space: Space, outcomes: list[Outcome], max_steps: int
) -> list[Wish]:
    """The trials to go on with; none at the end of the search."""
    known = by_id(outcomes)
    if search.name == TPE:
        return _of_tpe(search, space, outcomes, max_steps)
    if search.name == HALVING:
        points = _drawn(search, space)
        bracket = halving.bracket(
            len({point.setting for point in points}),
            max_steps=max_steps,
            factor=search.factor,
            min_steps=search.min_steps,
        )
        return _of_bracket(bracket, points, known)
    if search.name == HYPERBAND:
        for bracket, points in _brackets(search, space, max_steps):
            if found := _of_bracket(bracket, points, known):
                return found
        return []
    return [
        _whole(point, max_steps)
        for point in _drawn(search, space)
        if not (point.id in known and known[point.id].state in ENDED)
    ]


def _drawn(search: Search, space: Space) -> list[Point]:
    if not search.trials:
        return grid(space)
    draw = DRAWS[search.name if search.name in DRAWS else "random"]
    return draw(space, search.trials, seed=search.seed)


def _of_tpe(
    search: Search, space: Space, outcomes: list[Outcome], max_steps: int
) -> list[Wish]:
    open_ = [x.point for x in outcomes if x.state not in ENDED]
    settings = {x.point.setting for x in outcomes}
    if not open_:
        states = {DONE: tpe.DONE, DIVERGED: tpe.DONE, FAILED: tpe.FAILED}
        records = [tpe.Record(x.point, states[x.state], x.value) for x in outcomes]
        count = min(search.parallel, search.trials - len(settings))
        open_ = tpe.ask(space, records, max(count, 0), seed=search.seed)
    return [_whole(point, max_steps) for point in open_]


def _whole(point: Point, max_steps: int) -> Wish:
    """To the point's own end, which may lie behind that of the config."""
    return Wish(point, max(max_steps, point.overrides.get("num_steps", 0)))


def _brackets(
    search: Search, space: Space, max_steps: int
) -> list[tuple[halving.Bracket, list[Point]]]:
    """Those of Hyperband with their points, the boldest first."""
    brackets = halving.hyperband(
        max_steps=max_steps, factor=search.factor, min_steps=search.min_steps
    )
    total = sum(bracket.sizes[0] for bracket in brackets)
    points = DRAWS["random"](space, total, seed=search.seed)
    settings = iter(dict.fromkeys(point.setting for point in points))
    parts = []
    for bracket in brackets:
        own = set(itertools.islice(settings, bracket.sizes[0]))
        parts.append((bracket, [point for point in points if point.setting in own]))
    return parts


def _of_bracket(
    bracket: halving.Bracket, points: Sequence[Point], known: Mapping[str, Outcome]
) -> list[Wish]:
    """What a bracket wants: its trials are settings, scored by the mean over seeds."""
    of: dict[str, list[Point]] = {}
    for point in points:
        of.setdefault(point.setting, []).append(point)
    scores = {
        setting: _mean_scores(seeds, known, bracket.steps)
        for setting, seeds in of.items()
    }
    return [
        Wish(point, job.until_steps)
        for job in halving.jobs(bracket, [*of], scores)
        for point in of[job.trial]
        if job.until_steps not in _scores(point, known, (job.until_steps,))
    ]


def _mean_scores(
    points: Sequence[Point], known: Mapping[str, Outcome], rungs: Sequence[int]
) -> dict[int, float]:
    found = [_scores(point, known, rungs) for point in points]
    return {
        rung: sum(scores[rung] for scores in found) / len(found)
        for rung in rungs
        if all(rung in scores for scores in found)
    }


def _scores(
    point: Point, known: Mapping[str, Outcome], rungs: Sequence[int]
) -> dict[int, float]:
    """At the rungs that the trial has come to, and behind its end.

    There it is infinite if the trial ended badly, and its last if it ended early out of
    patience.
    """
    if point.id not in known:
        return {}
    outcome = known[point.id]
    scores = scores_of(outcome.folder)
    if outcome.state not in ENDED:
        return {rung: scores[rung] for rung in rungs if rung in scores}
    behind = outcome.value if outcome.state == DONE else math.inf
    return {rung: scores.get(rung, behind) for rung in rungs}
