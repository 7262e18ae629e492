"""Several pairs in one row, each attending to itself alone.

M is the length of a source row, L of a target row, R counts rows, P pairs.
"""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from data.batches import Rows
from data.packing.first_fit import (
    MULTIPLE,
    SAMPLE,
    fill,
    fill_share,
    order_of,
    place,
    round_up,
)
from data.packing.kept import kept
from data.packing.packed import Packed, counted
from data.ragged import Ragged, encode
from data.source import Record
from data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """`source_BM source_segment_BM target_BL target_segment_BL`, each text with EOS.

    `max_tokens` is the longest text, EOS included, that training keeps, and the longest
    row unless a text to be evaluated is longer. Rows are the shortest, in multiples of
    8, that are filled to `min_fill_share`; attention costs the square of their length.
    """

    max_tokens: int = 256
    min_fill_share: float = 0.92

    columns: ClassVar[tuple[str, ...]] = ("source", "target")

    def pack(
        self, records: Iterator[Record], tokenizer: Tokenizer, train: Rows | None
    ) -> Packed:
        """A split; rows are as long as those of training, or as its longest text."""
        source, target = encode(records, tokenizer, self.columns)
        stats = {"pairs": len(source.length_P), "dropped_long": 0, "dropped_blank": 0}
        if train is None:
            length_2P = np.stack([source.length_P, target.length_P])
            blank_P = (length_2P == 1).any(0)
            keep_P, dropped = kept(blank_P, length_2P.max(0), self.max_tokens)
            source, target = source.take(keep_P), target.take(keep_P)
            M, L = row_lengths(source.length_P, target.length_P, self)
            stats |= dropped
        else:
            M, L = train["source_BM"].shape[1], train["target_BL"].shape[1]
        M = max(M, round_up(source.length_P.max()))
        L = max(L, round_up(target.length_P.max()))
        rows = pack(source, target, M, L)
        return Packed(rows, counted(rows, **stats))


def row_lengths(
    source_P: np.ndarray, target_P: np.ndarray, settings: Pairs
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


def pack(source: Ragged, target: Ragged, M: int, L: int) -> dict[str, np.ndarray]:
    """Rows with the arrays of the batch contract, and `tokens_R`, the text in each.

    Within a row, segments are numbered from 1 in the order of the corpus; 0 is padding.
    """
    order = order_of(place(source.length_P, target.length_P, M, L))
    rows = {}
    for side, name, letter, width in (
        (source, "source", "M", M),
        (target, "target", "L", L),
    ):
        token, segment = fill(side, order, width)
        rows |= {f"{name}_B{letter}": token, f"{name}_segment_B{letter}": segment}
    both_P = (source.length_P + target.length_P)[order.order_P]
    rows["tokens_R"] = np.bincount(order.row_P, both_P).astype(np.int64)
    return rows
