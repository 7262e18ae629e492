"""On which axes a point lies at the edge of what was tried: its optimum is no optimum.

A best point at the edge of its grid says that a better one may lie beyond, so nothing
is compared by it (INVALID) until the axis is widened.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from core.registry import Range
from study.point import Point
from study.space import Options, Space, Values


class Edge(NamedTuple):
    """The key of an axis, the value at its edge, and which: `lowest` or `highest`."""

    key: str
    value: Any
    side: str


def edges(space: Space, point: Point, tried: Iterable[Point]) -> list[Edge]:
    """The axes of numbers on which no point tried lies beyond `point`.

    Compared are points with the same words chosen. Choices have no edge, nor has an
    axis of one value; and there is none where a value can go no further, as a decay of
    0 cannot: that is an end, which the key's range says.
    """
    picks = space.retrace(point.overrides)
    if picks is None:
        raise ValueError(f"The point {point.name} is not of this space.")
    others = [space.retrace(other.overrides) for other in tried]
    axes = {axis.place: axis for axis in space.axes if axis.place in picks}
    words = {place for place in axes if isinstance(axes[place].domain, Options)}
    alike = [
        other
        for other in others
        if other is not None
        and other.keys() == picks.keys()
        and all(other[place] == picks[place] for place in words)
    ]
    found = []
    for place in axes.keys() - words:
        key, domain = axes[place].key, axes[place].domain
        if isinstance(domain, Values) and len(domain.values) == 1:
            continue
        value, along = picks[place], [other[place] for other in alike]
        low, high = _ends(space.ranges.get(key))
        if value != low and not any(other < value for other in along):
            found.append(Edge(key, value, "lowest"))
        if value != high and not any(other > value for other in along):
            found.append(Edge(key, value, "highest"))
    return sorted(found)


def _ends(within: Range | None) -> tuple[float | None, float | None]:
    """The least and the greatest number that a key takes, where there is one.

    >>> _ends(Range("[0, 1)"))
    (0.0, None)
    """
    if within is None:
        return None, None
    low, high = (float(end) for end in within.interval[1:-1].split(","))
    return (
        low if within.interval[0] == "[" else None,
        high if within.interval[-1] == "]" else None,
    )
