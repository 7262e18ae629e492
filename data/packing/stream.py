"""Documents end to end, cut into rows of one length: the text of a language model.

L is the length of a row, R counts rows.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from data.batches import Rows
from data.codec import BOS, EOS
from data.packing.packed import Packed, counted, smallest
from data.source import Record
from data.tokenizer import Tokenizer

CHUNK = 1 << 20  # characters, at least, that are tokenised at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """`input_BL target_BL segment_BL` of all documents, each ended by EOS.

    The target is the stream itself, every token of it once; the input is the token
    before it in the stream, BOS where a document begins. So a row's first token has
    context, though not more than one token of it. The end of the last row is padding.
    `bytes` among the counts are those of the documents in UTF-8.
    """

    length: int = 256

    columns: ClassVar[tuple[str, ...]] = ("text",)

    def pack(
        self, records: Iterator[Record], tokenizer: Tokenizer, train: Rows | None
    ) -> Packed:
        """A split. Rows are of `length`, whatever those of training are."""
        del train
        small, sizes = smallest(tokenizer.vocab - 1), Sizes()
        chunks = [
            tokens_of(parts, tokenizer).astype(small)
            for parts in grouped(parts_of(records, tokenizer, sizes))
        ]
        rows = cut(np.concatenate(chunks), self.length)
        stats = {"documents": sizes.documents, "bytes": sizes.bytes}
        return Packed(rows, counted(rows, **stats))


class Part(NamedTuple):
    """A piece of a document, and whether it is its last."""

    text: str
    ends: bool


@dataclasses.dataclass
class Sizes:
    """What was read so far."""

    documents: int = 0
    bytes: int = 0


def parts_of(
    records: Iterable[Record], tokenizer: Tokenizer, sizes: Sizes
) -> Iterator[Part]:
    """The documents in pieces that can be tokenised one by one; adds to `sizes`."""
    for record in records:
        sizes.documents += 1
        sizes.bytes += len(record["text"].encode())
        parts = tokenizer.parts(record["text"])
        last = next(parts)
        for part in parts:
            yield Part(last, False)
            last = part
        yield Part(last, True)


def grouped(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts in lists of some CHUNK characters."""
    group, size = [], 0
    for part in parts:
        group.append(part)
        size += len(part.text) + 1
        if size >= CHUNK:
            yield group
            group, size = [], 0
    if group:
        yield group


def tokens_of(parts: list[Part], tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of parts, with EOS after the last of each document."""
    ids, length_P = tokenizer.flat([part.text for part in parts])
    ends_P = np.array([part.ends for part in parts])
    return np.insert(ids, np.cumsum(length_P)[ends_P], EOS)


def cut(stream: np.ndarray, L: int) -> dict[str, np.ndarray]:
    """Rows with the arrays of the batch contract, and `tokens_R`.

    >>> rows = cut(np.array([7, 1, 8, 9, 1]), 3)
    >>> rows["input_BL"].tolist(), rows["target_BL"].tolist()
    ([[3, 7, 3], [8, 9, 0]], [[7, 1, 8], [9, 1, 0]])
    >>> rows["segment_BL"].tolist()
    [[1, 1, 2], [1, 1, 0]]
    """
    R = -(-len(stream) // L)
    target, input_ = np.zeros((2, R * L), stream.dtype)
    target[: len(stream)] = stream
    input_[0], input_[1 : len(stream)] = BOS, stream[:-1]
    begins = np.zeros(R * L, bool)
    begins[1 : len(stream)] = stream[:-1] == EOS
    input_[begins] = BOS

    begins_BL = begins.reshape(R, L)
    begins_BL[:, 0] = True
    segment_BL = np.cumsum(begins_BL, 1, dtype=smallest(L))
    segment_BL.reshape(-1)[len(stream) :] = 0
    tokens_R = np.full(R, L, np.int64)
    tokens_R[-1] -= R * L - len(stream)
    return {
        "input_BL": input_.reshape(R, L),
        "target_BL": target.reshape(R, L),
        "segment_BL": segment_BL,
        "tokens_R": tokens_R,
    }
