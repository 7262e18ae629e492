"""Which row each text goes to: first fit, longest first.

Source: Johnson 1973, "Near-optimal bin packing algorithms"; here in two dimensions, for
a row of pairs has room on both sides. M and L are the lengths of the sides, R counts
rows, P pairs.
"""

from typing import NamedTuple

import numpy as np

from data.ragged import Ragged

MULTIPLE = 8
WINDOW = 50_000  # pairs that are packed together: bounds time and memory
SAMPLE = 10_000  # pairs that the choice of row lengths looks at


def place(source_P: np.ndarray, target_P: np.ndarray, M: int, L: int) -> np.ndarray:
    """The row of each pair, by first fit from the longest on.

    Equal pairs are placed in one go, which is what one after another comes to.

    >>> import numpy as np
    >>> place(np.array([2, 5, 3]), np.array([2, 4, 3]), 8, 8)
    array([1, 0, 0])
    """
    row_P = np.zeros(len(source_P), np.int64)
    first = 0
    for begin in range(0, len(source_P), WINDOW):
        part = slice(begin, begin + WINDOW)
        row_P[part] = first + _place(source_P[part], target_P[part], M, L)
        first = row_P[part].max() + 1
    return row_P


def _place(source_P: np.ndarray, target_P: np.ndarray, M: int, L: int) -> np.ndarray:
    """`place` within one window."""
    row_P = np.zeros(len(source_P), np.int64)
    order_P = np.lexsort((source_P, source_P + target_P))[::-1]
    kinds, count = np.unique(
        np.stack([source_P + target_P, source_P], 1), axis=0, return_counts=True
    )
    room_R = np.zeros((2, 0), np.int64)
    done = 0
    for (both, source), n in zip(kinds[::-1], count[::-1], strict=True):
        size = np.array([[source], [both - source]])
        fits = np.array([[M], [L]]) // size
        new = -(-int(n) // int(fits.min()))
        open_R = np.concatenate([room_R, np.tile([[M], [L]], (1, new))], 1)
        fits_R = (open_R // size).min(0)
        take_R = np.clip(n - (np.cumsum(fits_R) - fits_R), 0, fits_R)
        row_P[order_P[done : done + n]] = np.repeat(np.arange(len(take_R)), take_R)
        used = max(room_R.shape[1], int(np.flatnonzero(take_R)[-1]) + 1)
        room_R = (open_R - take_R * size)[:, :used]
        done += n
    return row_P


def fill_share(source_P: np.ndarray, target_P: np.ndarray, M: int, L: int) -> float:
    """The share of the packed rows, source and target together, that is text."""
    num_rows = int(place(source_P, target_P, M, L).max()) + 1
    return float((source_P.sum() + target_P.sum()) / (num_rows * (M + L)))


def round_up(length: int) -> int:
    """To a multiple of 8."""
    return -(-int(length) // MULTIPLE) * MULTIPLE


class Order(NamedTuple):
    """Texts in the order of their rows, and within a row in that of the corpus.

    `order_P` are their numbers, `row_P` their rows, `segment_P` their places in them,
    from 1 on; `first_R` is where each row begins.
    """

    order_P: np.ndarray
    row_P: np.ndarray
    segment_P: np.ndarray
    first_R: np.ndarray


def order_of(row_P: np.ndarray) -> Order:
    """The order of texts that were placed in these rows.

    >>> order_of(np.array([1, 0, 0])).segment_P
    array([1, 2, 1])
    """
    order_P = np.argsort(row_P, kind="stable")
    sorted_P = row_P[order_P]
    first_R = np.searchsorted(sorted_P, np.arange(int(sorted_P[-1]) + 1))
    segment_P = np.arange(len(order_P)) - first_R[sorted_P] + 1
    return Order(order_P, sorted_P, segment_P, first_R)


def fill(side: Ragged, order: Order, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens scattered to rows of that width, and their segments."""
    length_P = side.length_P[order.order_P]
    before_P = np.cumsum(length_P) - length_P
    offset_P = order.row_P * width + before_P - before_P[order.first_R][order.row_P]
    within = np.arange(length_P.sum()) - np.repeat(before_P, length_P)
    to = np.repeat(offset_P, length_P) + within
    origin = np.repeat(side.start_P[:-1][order.order_P], length_P) + within
    small = np.uint16 if side.tokens.max(initial=0) < 1 << 16 else np.int32
    token = np.zeros((len(order.first_R), width), small)
    segment = np.zeros((len(order.first_R), width), np.uint16)
    token.reshape(-1)[to] = side.tokens[origin]
    segment.reshape(-1)[to] = np.repeat(order.segment_P, length_P)
    return token, segment
