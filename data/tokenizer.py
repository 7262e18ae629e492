"""SentencePiece, trained on the training split, exact both ways.

Source: Kudo & Richardson 2018, https://arxiv.org/abs/1808.06226. Text is taken as it
is (identity normalisation): no-break and double spaces are kept.
"""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import sentencepiece

from core.registry import Entry, Range

PAD, EOS, UNK, BOS = 0, 1, 2, 3
TOO_BIG = re.compile(r"Vocabulary size too high .* value <= (\d+)")
TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


class Tokenizer:
    """Text to ids and back: `decode(encode(text)) == text` if its characters are known.

    With `byte_fallback` every character is known. The one exception is U+2581, which
    SentencePiece keeps for the space.
    """

    def __init__(self, model: bytes):
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("This is not a SentencePiece model.") from error
        ids = self._processor
        special = (ids.pad_id(), ids.eos_id(), ids.unk_id(), ids.bos_id())
        if special != (PAD, EOS, UNK, BOS):
            raise ValueError(
                f"The tokenizer has pad, eos, unk, bos = {special}, not 0, 1, 2, 3."
            )

    @property
    def vocab(self) -> int:
        """The number of ids."""
        return self._processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""
        return self._processor.encode(text)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, on all cores."""
        return self._processor.encode(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; what follows an EOS is dropped, and so is padding."""
        kept = []
        for token in np.asarray(ids, dtype=np.int64).tolist():
            if token == EOS:
                break
            if token not in (PAD, BOS):
                kept.append(token)
        return self._processor.decode(kept)


def train(
    texts: Iterable[str],
    *,
    kind: Literal["bpe", "unigram", "char"] = "bpe",
    vocab: int = 8_000,
    split_digits: bool = True,
    byte_fallback: bool = True,
) -> Tokenizer:
    """A tokenizer for these texts, the same for the same texts.

    `char` has as many ids as characters, `vocab` at most; the others have `vocab`.
    `byte_fallback` writes unknown characters as bytes: 256 of the ids.

    Raises:
      ValueError: the texts cannot fill the vocabulary, or overfill it.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab,
            split_digits=split_digits,
            byte_fallback=byte_fallback,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 20,
            num_threads=1,
            minloglevel=3,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            bos_id=BOS,
        )
    except RuntimeError as error:
        raise ValueError(_reason(str(error), kind, vocab)) from error
    return Tokenizer(model.getvalue())


def _reason(text: str, kind: str, vocab: int) -> str:
    """SentencePiece's complaint in our words."""
    if found := TOO_BIG.search(text):
        return (
            f"tokenizer.vocab={vocab} is too big for this corpus: "
            f"a {kind} tokenizer finds {found[1]} pieces in it at most."
        )
    if found := TOO_SMALL.search(text):
        return (
            f"tokenizer.vocab={vocab} is too small for this corpus: "
            f"its characters and the special ids alone are {found[1]}."
        )
    return (
        f"tokenizer.kind={kind!r} with vocab={vocab} cannot be trained: {text.strip()}"
    )


def check(*, kind: str = "bpe", vocab: int = 8_000, byte_fallback: bool = True, **_):
    """Raises ValueError for a vocabulary that the special ids already fill."""
    least = 4 + 256 * byte_fallback
    if vocab <= least:
        raise ValueError(
            f"tokenizer.vocab={vocab} must be more than {least}, the special ids"
            f"{' and the 256 bytes of byte_fallback' if byte_fallback else ''}."
        )


TOKENIZER = Entry(
    train,
    "https://arxiv.org/abs/1808.06226",
    {"vocab": Range("[5, 1000000]")},
    check,
)
