"""Packing: several pairs in one row, each attending to itself alone.

M is the length of a source row, L of a target row, R counts rows, P pairs. Pairs are
placed by first fit, longest first. Source: Johnson 1973, "Near-optimal bin packing
algorithms"; here in two dimensions, for a row has room on both sides.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from core.registry import Entry, Range
from data.ragged import Ragged

MULTIPLE = 8
WINDOW = 50_000  # pairs that are packed together: bounds time and memory
SAMPLE = 10_000  # pairs that the choice of row lengths looks at


@dataclasses.dataclass(frozen=True)
class Packing:
    """What of packing is configured.

    `max_tokens` is the longest text, EOS included, that training keeps, and the longest
    row unless a text to be evaluated is longer. Rows are the shortest, in multiples of
    8, that are filled to `min_fill_share`; attention costs the square of their length.
    """

    max_tokens: int
    min_fill_share: float


def packing(*, max_tokens: int = 256, min_fill_share: float = 0.92) -> Packing:
    """See `Packing`."""
    return Packing(max_tokens, min_fill_share)


PACKING = Entry(
    packing,
    "https://en.wikipedia.org/wiki/First-fit-decreasing_bin_packing",
    {"max_tokens": Range("[8, 65536]"), "min_fill_share": Range("[0, 1]")},
)


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


def row_lengths(
    source_P: np.ndarray, target_P: np.ndarray, settings: Packing
) -> tuple[int, int]:
    """M and L: the least, together, that hold every pair and are full enough.

    Where none is, up to four times the longest text, the fullest: a small corpus leaves
    its last row half empty. Shares are those of a sample of the pairs.
    """
    least = round_up(source_P.max()), round_up(target_P.max())
    most = max(min(round_up(settings.max_tokens), 4 * max(least)), *least)
    every = -(-len(source_P) // SAMPLE)
    source_P, target_P = source_P[::every], target_P[::every]
    share = source_P.sum() / (source_P.sum() + target_P.sum())
    best = (-1.0, *least)
    for whole in range(sum(least), 2 * most + 1, MULTIPLE):
        ideal = MULTIPLE * round(whole * share / MULTIPLE)
        for M in sorted(
            range(least[0], whole - least[1] + 1, MULTIPLE),
            key=lambda M: abs(M - ideal),
        )[:3]:
            if max(M, whole - M) <= most:
                fill = fill_share(source_P, target_P, M, whole - M)
                best = max(best, (fill, M, whole - M), key=lambda found: found[0])
        if best[0] >= settings.min_fill_share:
            break
    return best[1], best[2]


def round_up(length: int) -> int:
    """To a multiple of 8."""
    return -(-int(length) // MULTIPLE) * MULTIPLE


def pack(source: Ragged, target: Ragged, M: int, L: int) -> dict[str, np.ndarray]:
    """Rows with the arrays of the batch contract, and `tokens_R`, the text in each.

    Within a row, segments are numbered from 1 in the order of the corpus; 0 is padding.
    """
    row_P = place(source.length_P, target.length_P, M, L)
    order_P = np.argsort(row_P, kind="stable")
    sorted_P = row_P[order_P]
    num_rows = int(sorted_P[-1]) + 1
    first_R = np.searchsorted(sorted_P, np.arange(num_rows))
    segment_P = np.arange(len(order_P)) - first_R[sorted_P] + 1
    rows = {
        **_fill(source, order_P, sorted_P, first_R, segment_P, "source", "M", M),
        **_fill(target, order_P, sorted_P, first_R, segment_P, "target", "L", L),
    }
    both_P = (source.length_P + target.length_P)[order_P]
    rows["tokens_R"] = np.bincount(sorted_P, both_P, num_rows).astype(np.int64)
    return rows


def _fill(
    side: Ragged, order_P, row_P, first_R, segment_P, name: str, letter: str, width: int
) -> Mapping[str, np.ndarray]:
    """One side of `pack`: tokens scattered to their rows, and their segments."""
    length_P = side.length_P[order_P]
    before_P = np.cumsum(length_P) - length_P
    offset_P = row_P * width + before_P - before_P[first_R][row_P]
    within = np.arange(length_P.sum()) - np.repeat(before_P, length_P)
    to = np.repeat(offset_P, length_P) + within
    origin = np.repeat(side.start_P[:-1][order_P], length_P) + within
    small = np.uint16 if side.tokens.max(initial=0) < 1 << 16 else np.int32
    token = np.zeros((len(first_R), width), small)
    segment = np.zeros((len(first_R), width), np.uint16)
    token.reshape(-1)[to] = side.tokens[origin]
    segment.reshape(-1)[to] = np.repeat(segment_P, length_P)
    return {f"{name}_B{letter}": token, f"{name}_segment_B{letter}": segment}
