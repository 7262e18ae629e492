"""Pairs as one text each, source before target, several in one row.

L is the length of a row, R counts rows, P pairs.
"""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from data.batches import Rows
from data.codec import BOS
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
class Joined:
    """`input_BL target_BL segment_BL prefix_BL`, a pair a segment.

    Of a source s and a target t the input is `s EOS BOS t`. The target is 0 at `s EOS`,
    where the prefix is 1, and `t EOS` at `BOS t`. `max_tokens` is the longest input
    that training keeps, and the longest row unless a pair to be evaluated is longer;
    rows are the shortest, in multiples of 8, that are filled to `min_fill_share`.
    """

    max_tokens: int = 256
    min_fill_share: float = 0.92

    columns: ClassVar[tuple[str, ...]] = ("source", "target")

    def pack(
        self, records: Iterator[Record], tokenizer: Tokenizer, train: Rows | None
    ) -> Packed:
        """A split; rows are as long as those of training, or as its longest pair."""
        source, target = encode(records, tokenizer, self.columns)
        stats = {"pairs": len(source.length_P), "dropped_long": 0, "dropped_blank": 0}
        if train is None:
            blank_P = (source.length_P == 1) | (target.length_P == 1)
            length_P = source.length_P + target.length_P
            keep_P, dropped = kept(blank_P, length_P, self.max_tokens)
            source, target = source.take(keep_P), target.take(keep_P)
            L = row_length(source.length_P + target.length_P, self)
            stats |= dropped
        else:
            L = train["input_BL"].shape[1]
        L = max(L, round_up((source.length_P + target.length_P).max()))
        rows = join(source, target, L)
        return Packed(rows, counted(rows, **stats))


def row_length(length_P: np.ndarray, settings: Joined) -> int:
    """The least that holds every pair and is full enough, by a sample of the pairs.

    Where none is, up to four times the longest pair, the fullest.
    """
    least = round_up(length_P.max())
    most = max(min(round_up(settings.max_tokens), 4 * least), least)
    length_P = length_P[:: -(-len(length_P) // SAMPLE)]
    best = (-1.0, least)
    for L in range(least, most + 1, MULTIPLE):
        fill = fill_share(length_P, length_P, L, L)
        best = max(best, (fill, L), key=lambda found: found[0])
        if fill >= settings.min_fill_share:
            break
    return best[1]


def join(source: Ragged, target: Ragged, L: int) -> dict[str, np.ndarray]:
    """Rows with the arrays of the batch contract, and `tokens_R`."""
    length_P = source.length_P + target.length_P
    start_P = np.concatenate([[0], np.cumsum(length_P)])
    prefix = np.repeat(
        np.tile([1, 0], len(length_P)),
        np.stack([source.length_P, target.length_P], 1).reshape(-1),
    )
    before = np.roll(target.tokens, 1)
    before[target.start_P[:-1]] = BOS
    input_, target_ = np.zeros((2, len(prefix)), np.int32)
    input_[prefix == 1], input_[prefix == 0] = source.tokens, before
    target_[prefix == 0] = target.tokens

    order = order_of(place(length_P, length_P, L, L))
    rows = {}
    for name, tokens in (("input", input_), ("target", target_), ("prefix", prefix)):
        rows[f"{name}_BL"], rows["segment_BL"] = fill(Ragged(tokens, start_P), order, L)
    rows["tokens_R"] = (rows["segment_BL"] > 0).sum(1)
    return rows
