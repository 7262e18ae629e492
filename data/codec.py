"""What a tokenizer is made of: four ids that never change, and a codec for the rest."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

PAD, EOS, UNK, BOS = 0, 1, 2, 3
SPECIAL = 4  # ids from here on are the codec's
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Codec(Protocol):
    """Texts to ids and back. P counts texts."""

    vocab: int

    def flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The int32 ids of the texts, end to end, and how many each has."""
        ...

    def parts(self, text: str) -> Iterator[str]:
        """A long text in pieces whose ids, end to end, are those of the text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, none of which is PAD, EOS or BOS."""
        ...


def sliced(text: str, length: int) -> Iterator[str]:
    """The text in slices; an empty one has one.

    >>> list(sliced("abcde", 2)), list(sliced("", 2))
    (['ab', 'cd', 'e'], [''])
    """
    for begin in range(0, max(len(text), 1), length):
        yield text[begin : begin + length]
