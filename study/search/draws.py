"""Points drawn from a space before anything has run: at random, or spread evenly.

Each axis is a dimension of the unit cube, in the order stated; those of a choice have
their own, which points under other words leave unread. The first k points of a draw
are the draw of k points.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from study.point import Point
from study.search.sequence import halton_sequence
from study.space import Axis, Options, Space, Values


def random(space: Space, count: int, *, seed: int) -> list[Point]:
    """`count` independent points.

    Source: Bergstra & Bengio 2012, https://jmlr.org/papers/v13/bergstra12a.html
    """
    cube = np.random.Generator(np.random.PCG64(seed))
    return points_at(space, cube.random((count, len(space.axes))))


def halton(space: Space, count: int, *, seed: int = 0) -> list[Point]:
    """`count` points of the sequence that AlgoPerf draws its trials from.

    Seed 0 begins as AlgoPerf does, and each further one 1,000 points later. The values
    of floats are AlgoPerf's own, to the last bit, where its space has as many axes, in
    this order; it shuffles the points, by no seed, and draws no whole numbers.
    For comparing with AlgoPerf: in bases near 1,000, fewer points than that are no more
    even than chance. `sobol` is, from a few on.
    Source: Bousquet et al. 2017, https://arxiv.org/abs/1706.03200; Dahl et al. 2023,
    https://arxiv.org/abs/2306.07179, section 4.3.
    """
    return points_at(space, halton_sequence(count, len(space.axes), 1_000 * seed))


def sobol(space: Space, count: int, *, seed: int) -> list[Point]:
    """`count` points of a scrambled Sobol' sequence; best where a power of two.

    Source: Owen 1998, https://doi.org/10.1006/jcom.1998.0487, by scipy.
    """
    sequence = qmc.Sobol(
        len(space.axes), rng=np.random.Generator(np.random.PCG64(seed))
    )
    rows = sequence.random_base2(max(count - 1, 0).bit_length())
    return points_at(space, rows[:count])


def points_at(space: Space, rows: np.ndarray) -> list[Point]:
    """The points at places of the unit cube, with all seeds; none is there twice."""
    places = [axis.place for axis in space.axes]
    found = {}
    for row in rows.tolist():
        share = dict(zip(places, row, strict=True))
        values = space.follow(lambda axis, share=share: at(axis, share[axis.place]))
        found |= {point.id: point for point in space.seeded(values)}
    return list(found.values())


def at(axis: Axis, share: float) -> Any:
    """What lies at a share in [0, 1) of an axis: a value, or the word of a choice.

    A range of whole numbers is cut into equal parts, one a number, on its own scale.
    """
    domain = axis.domain
    if isinstance(domain, Options):
        return _item([*domain.words], share)
    if isinstance(domain, Values):
        return _item(domain.values, share)
    low, high = domain.low, domain.high
    whole = isinstance(low, int)
    end = high + 1 if whole else high
    if domain.log:
        value = low * math.exp(share * math.log(end / low))
    else:
        value = share * (end - low) + low
    return min(math.floor(value), high) if whole else value


def _item(items: Sequence[Any], share: float) -> Any:
    return items[math.floor(share * len(items))]
