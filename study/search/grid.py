"""Every point of a space."""

import itertools

from core.refusal import shown
from study.point import Point
from study.space import Axis, Branch, Options, Space, Span, join, steps


def grid(space: Space) -> list[Point]:
    """The product of the axes; the last one stated runs fastest, the seeds within it.

    A choice is a union: each word brings the product of what stands under it, in the
    order stated.

    Raises:
      ValueError: a range without `points`, or a point that is there twice.
    """
    points = [
        point for values in _product(space.root) for point in space.seeded(values)
    ]
    seen = set()
    for point in points:
        if point.id in seen:
            raise ValueError(
                f"sweep(): the point {shown(point.overrides, 100)} is there twice, "
                "under two words of a choice."
            )
        seen.add(point.id)
    return points


def _product(part: Branch) -> list[dict]:
    found = []
    for chosen in itertools.product(*map(_along, part.axes)):
        overrides = dict(part.fixed)
        for new in chosen:
            join(overrides, new)
        found.append(overrides)
    return found


def _along(axis: Axis) -> list[dict]:
    domain = axis.domain
    if isinstance(domain, Options):
        return [new for under in domain.words.values() for new in _product(under)]
    if isinstance(domain, Span) and not domain.points:
        word = "log" if domain.log else "linear"
        ends = (domain.low, domain.high)
        raise ValueError(
            f"sweep(): {axis.key}={word}{ends} has no points for a grid; say "
            f"dict({word}={ends}, points=5), or draw from it."
        )
    tried = steps(domain) if isinstance(domain, Span) else domain.values
    return [{axis.key: value} for value in tried]
