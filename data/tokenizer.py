"""Text to ids and back, trained on the training split, exact both ways."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from core.registry import Entry, Range
from data import characters
from data.codec import BOS, EOS, PAD, SPECIAL
from data.pieces import Pieces, piece_model


class Tokenizer:
    """`decode(encode(text)) == text` if the characters of the text are known.

    Bytes and pieces with `byte_fallback` know them all. `model` is all that a tokenizer
    is, of whatever kind. P counts texts.
    """

    def __init__(self, model: bytes):
        self.model = model
        ours = model.startswith(b"{")  # no SentencePiece model begins like that
        self._codec = characters.read(model) if ours else Pieces(model)

    @property
    def vocab(self) -> int:
        """The number of ids."""
        return self._codec.vocab

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""
        return self.flat([text])[0].tolist()

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts."""
        ids, length_P = self.flat(texts)
        ends = np.cumsum(length_P).tolist()
        begins = [0, *ends[:-1]]
        return [ids[a:b].tolist() for a, b in zip(begins, ends, strict=True)]

    def flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The int32 ids of many texts, end to end, and how many each has."""
        return self._codec.flat(texts)

    def parts(self, text: str) -> Iterator[str]:
        """A long text in pieces whose ids, end to end, are those of the text."""
        return self._codec.parts(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; what follows an EOS is dropped, and so is padding."""
        kept = []
        for token in np.asarray(ids, dtype=np.int64).tolist():
            if token == EOS:
                break
            if token not in (PAD, BOS):
                kept.append(token)
        return self._codec.decode(kept)


def train(
    texts: Iterable[str],
    *,
    kind: Literal["bpe", "unigram", "char", "byte"] = "bpe",
    vocab: int = 8_000,
    split_digits: bool = True,
    byte_fallback: bool = True,
) -> Tokenizer:
    """A tokenizer for these texts, the same for the same texts.

    `bpe` and `unigram` have `vocab` ids; `char` has one for each character of the
    texts, `byte` one for each byte: `vocab` at most. `split_digits` and
    `byte_fallback`, which writes unknown characters as bytes, 256 of the ids, are of
    `bpe` and `unigram`.

    Raises:
      ValueError: the texts cannot fill the vocabulary, or overfill it.
    """
    if kind == "byte":
        return Tokenizer(characters.byte_model())
    if kind == "char":
        return Tokenizer(characters.char_model(texts, vocab))
    return Tokenizer(piece_model(texts, kind, vocab, split_digits, byte_fallback))


def check(*, kind: str = "bpe", vocab: int = 8_000, byte_fallback: bool = True, **_):
    """Raises ValueError for a vocabulary that its ids overfill, whatever the text."""
    if kind == "byte" and vocab < characters.Bytes.vocab:
        raise ValueError(
            f"tokenizer.vocab={vocab} must be at least {characters.Bytes.vocab}, "
            "the special ids and the 256 bytes."
        )
    fallback = byte_fallback and kind in ("bpe", "unigram")
    least = SPECIAL + characters.NUM_BYTES * fallback
    if kind != "byte" and vocab <= least:
        raise ValueError(
            f"tokenizer.vocab={vocab} must be more than {least}, the special ids"
            f"{' and the 256 bytes of byte_fallback' if fallback else ''}."
        )


TOKENIZER = Entry(
    train,
    "https://arxiv.org/abs/1808.06226",
    {"vocab": Range("[5, 1000000]")},
    check,
)
