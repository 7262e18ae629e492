"""Token sequences of many lengths, end to end. P counts sequences, or pairs of them."""

import dataclasses
from collections.abc import Iterator
from itertools import islice

import numpy as np

from data.codec import EOS
from data.source import Record
from data.tokenizer import Tokenizer

CHUNK = 10_000


@dataclasses.dataclass(frozen=True)
class Ragged:
    """`tokens[start_P[p]:start_P[p + 1]]` is sequence p."""

    tokens: np.ndarray
    start_P: np.ndarray

    @property
    def length_P(self) -> np.ndarray:
        """The length of each sequence."""
        return np.diff(self.start_P)

    def take(self, keep_P: np.ndarray) -> "Ragged":
        """The sequences where `keep_P` is true.

        >>> import numpy as np
        >>> both = Ragged(np.array([5, 6, 7]), np.array([0, 2, 3]))
        >>> both.take(np.array([False, True])).tokens
        array([7])
        """
        length_P = self.length_P
        tokens = self.tokens[np.repeat(keep_P, length_P)]
        return Ragged(tokens, _starts(length_P[keep_P]))


def encode(
    records: Iterator[Record], tokenizer: Tokenizer, sides: tuple[str, ...]
) -> list[Ragged]:
    """The columns `sides` of the records as tokens, each text ended by EOS."""
    tokens: list[list[np.ndarray]] = [[] for _ in sides]
    lengths: list[list[np.ndarray]] = [[] for _ in sides]
    while chunk := list(islice(records, CHUNK)):
        for side, into, length in zip(sides, tokens, lengths, strict=True):
            ids, length_P = tokenizer.flat([record[side] for record in chunk])
            into.append(np.insert(ids, np.cumsum(length_P), EOS))
            length.append(length_P + 1)
    return [
        Ragged(np.concatenate(into), _starts(np.concatenate(length)))
        for into, length in zip(tokens, lengths, strict=True)
    ]


def _starts(length_P: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(length_P)]).astype(np.int64)
