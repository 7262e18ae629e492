"""The space that a sweep searches, as an experiment states it beside `get_config`.

    def sweep():
        return dict(
            axes={
                "optim.schedule.peak": dict(log=(1e-3, 1e-1), points=5),
                "optim.decay": [0.0, 0.1],
                "num_steps": 150,
                "optim.rule.name": dict(
                    choice={"adam": {"optim.rule.b2": [0.95, 0.99]}, "lion": {}}
                ),
            },
            seeds=5,
        )

A list of numbers is tried in order and has edges; one of words has none, and neither
has a `choice`. `log` and `linear` are ranges, both ends included; `points` of them
make a grid. What stands under a word of a choice is there with that word alone.
`blocks={label: {...}}` chooses among blocks of keys, under a name of one's own. A plain
value is set in every point. Seeds count from the config's; every point is run with
all of them. The batches of a run are those of its seed, whatever else is changed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from core.refusal import short, shown
from core.registry import Range
from study.point import Point


class Values(NamedTuple):
    """Numbers that are tried."""

    values: tuple[Any, ...]


class Span(NamedTuple):
    """A range with both its ends; of whole numbers where these are."""

    low: Any
    high: Any
    log: bool
    points: int = 0  # of its grid; 0 is without one


class Options(NamedTuple):
    """What may be chosen, by word."""

    words: "dict[str, Branch]"


class Axis(NamedTuple):
    """A direction of the space.

    `key` is the config's, or the name of a choice among blocks. `place` is it behind
    the words under which it stands, and there is one axis of each.
    """

    key: str
    place: str
    domain: Values | Span | Options


class Branch(NamedTuple):
    """What is set in every point, and the axes."""

    fixed: dict[str, Any]
    axes: tuple[Axis, ...]


class Space(NamedTuple):
    """What is searched, and the seeds of every point.

    `ranges` say by key how far a value may go at all.
    """

    root: Branch
    seeds: tuple[int, ...]
    ranges: dict[str, Range]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All of them, in the order stated, those of a choice behind it."""
        return tuple(_axes(self.root))

    def follow(self, pick: Callable[[Axis], Any]) -> dict[str, Any]:
        """The overrides where each axis has what `pick` says: a value, or a word.

        Only axes are asked for that the words before leave in the space.
        """
        return _follow(self.root, pick)

    def retrace(self, overrides: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `follow` picked, by place; None where it cannot come to these."""
        traced = _retrace(self.root, overrides)
        return None if traced is None else traced[0]

    def seeded(self, overrides: Mapping[str, Any]) -> list[Point]:
        """The points of all seeds with these values."""
        return [Point(dict(overrides), seed) for seed in self.seeds]


def steps(span: Span) -> tuple[float, ...] | tuple[int, ...]:
    """The points of a range as a grid has them, to 12 digits, so that 0.1 is 0.1.

    >>> steps(Span(1e-3, 1e-1, log=True, points=3)), steps(Span(8, 64, True, 4))
    ((0.001, 0.01, 0.1), (8, 16, 32, 64))
    """
    space = np.geomspace if span.log else np.linspace
    values = space(span.low, span.high, span.points).tolist()
    values = [span.low, *(float(f"{v:.12g}") for v in values[1:-1]), span.high]
    whole = isinstance(span.low, int)
    return tuple(round(value) if whole else value for value in values)


def _axes(part: Branch) -> Iterator[Axis]:
    for axis in part.axes:
        yield axis
        if isinstance(axis.domain, Options):
            for under in axis.domain.words.values():
                yield from _axes(under)


def _follow(part: Branch, pick: Callable[[Axis], Any]) -> dict[str, Any]:
    overrides = dict(part.fixed)
    for axis in part.axes:
        chosen = pick(axis)
        if isinstance(axis.domain, Options):
            new = _follow(axis.domain.words[chosen], pick)
        else:
            new = {axis.key: chosen}
        join(overrides, new)
    return overrides


def _retrace(
    part: Branch, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], set[str]] | None:
    """The picks, and the keys that they explain.

    Of words that fit, the one that explains most was picked: a word that sets nothing
    fits always.
    """
    if any(overrides.get(key) != value for key, value in part.fixed.items()):
        return None
    picks, keys = {}, set(part.fixed)
    for axis in part.axes:
        if isinstance(axis.domain, Options):
            tried = {w: _retrace(b, overrides) for w, b in axis.domain.words.items()}
            found = {word: inner for word, inner in tried.items() if inner is not None}
            if not found:
                return None
            word = max(found, key=lambda word: len(found[word][1]))
            picks |= {axis.place: word} | found[word][0]
            keys |= found[word][1]
        elif axis.key in overrides and _holds(axis.domain, overrides[axis.key]):
            picks[axis.place] = overrides[axis.key]
            keys.add(axis.key)
        else:
            return None
    return picks, keys


def _holds(domain: Values | Span, value: Any) -> bool:
    if isinstance(domain, Span):
        return domain.low <= value <= domain.high
    return value in domain.values


def join(overrides: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Adds `new` to the overrides.

    Raises:
      ValueError: a key is set twice.
    """
    for key in new:
        if key in overrides:
            raise ValueError(
                f"sweep(): {short(key)} is set twice in a point, to "
                f"{shown(overrides[key])} and {shown(new[key])}."
            )
    overrides |= new
    return overrides
