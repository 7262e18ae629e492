"""Tokens that are characters or bytes: exact for any text, line feeds and all.

A model is a JSON object: nothing in it is executed, and one that differs from what we
write by a single byte is refused. P counts texts.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data.codec import SPECIAL, UNK, UNKNOWN, sliced

PART = 1 << 20  # characters
NUM_BYTES, NUM_CHARACTERS = 256, 0x110000


class Characters:
    """A character an id, in the order of their code points; others are UNK."""

    def __init__(self, characters: str):
        self.vocab = SPECIAL + len(characters)
        self._texts = UNKNOWN * SPECIAL + characters
        self._id = np.full(NUM_CHARACTERS, UNK, np.int32)
        self._id[_codes(characters)] = np.arange(SPECIAL, self.vocab)

    def flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the texts, end to end, and how many each has."""
        length_P = np.fromiter(map(len, texts), np.int64, len(texts))
        return self._id[_codes("".join(texts))], length_P

    def parts(self, text: str) -> Iterator[str]:
        """A long text in pieces."""
        return sliced(text, PART)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return "".join(self._texts[token] for token in ids)


class Bytes:
    """A byte of UTF-8 an id. Bytes that are no UTF-8 decode to U+FFFD."""

    vocab = SPECIAL + NUM_BYTES

    def flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the texts, end to end, and how many each has."""
        raw = [text.encode() for text in texts]
        length_P = np.fromiter(map(len, raw), np.int64, len(raw))
        whole = np.frombuffer(b"".join(raw), np.uint8)
        return whole.astype(np.int32) + SPECIAL, length_P

    def parts(self, text: str) -> Iterator[str]:
        """A long text in pieces."""
        return sliced(text, PART)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        raw = b"".join(
            UNKNOWN.encode() if token == UNK else bytes((token - SPECIAL,))
            for token in ids
        )
        return raw.decode(errors="replace")


def char_model(texts: Iterable[str], vocab: int) -> bytes:
    """The model of the characters in the texts.

    Raises:
      ValueError: they are too many for `vocab`.
    """
    found: set[str] = set()
    for text in texts:
        found.update(text)
    if SPECIAL + len(found) > vocab:
        raise ValueError(
            f"tokenizer.vocab={vocab} is too small for this corpus: "
            f"its characters and the special ids alone are {SPECIAL + len(found)}."
        )
    return _written("char", "".join(sorted(found)))


def byte_model() -> bytes:
    """The model of all bytes."""
    return _written("byte", "")


def read(model: bytes) -> Characters | Bytes:
    """The codec of a model.

    Raises:
      ValueError: it is none that we wrote.
    """
    try:
        content = json.loads(model)
        kind, characters = content["kind"], content["characters"]
        ordered = "".join(sorted(set(characters)))
        if model == _written(kind, ordered):
            if kind == "char":
                return Characters(ordered)
            if model == byte_model():
                return Bytes()
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # as any other model that is not ours
    raise ValueError("This is not a tokenizer of characters or bytes.")


def _written(kind: str, characters: str) -> bytes:
    return json.dumps({"kind": kind, "characters": characters}).encode()


def _codes(text: str) -> np.ndarray:
    """The code point of each character."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
