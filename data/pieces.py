"""SentencePiece: tokens that are pieces of words, learned from a text.

Source: Kudo & Richardson 2018, https://arxiv.org/abs/1808.06226. Text is taken as it
is (identity normalisation): no-break and double spaces are kept. P counts texts.
"""

import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import sentencepiece

from data.codec import BOS, EOS, PAD, UNK, sliced

PART = 1 << 16  # characters, and on to the next space
LONGEST = 1 << 17  # characters that are trained on at once
TOO_BIG = re.compile(r"Vocabulary size too high .* value <= (\d+)")
TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


class Pieces:
    """The codec of a SentencePiece model.

    U+2581 alone does not come back: SentencePiece keeps it for the space.

    Raises:
      ValueError: it is no such model, or has other special ids.
    """

    def __init__(self, model: bytes):
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
        self.vocab = ids.get_piece_size()

    def flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the texts, end to end, and how many each has; on all cores."""
        ids = self._processor.encode(list(texts))
        length_P = np.fromiter(map(len, ids), np.int64, len(ids))
        every = itertools.chain.from_iterable(ids)
        return np.fromiter(every, np.int32, int(length_P.sum())), length_P

    def parts(self, text: str) -> Iterator[str]:
        """A long text, cut at spaces.

        A piece never goes on over a space, and a text is encoded as if one stood before
        it: so the space of a cut is left out.
        """
        begin = 0
        while (end := text.find(" ", begin + PART, len(text) - 1)) >= 0:
            yield text[begin:end]
            begin = end + 1
        yield text[begin:]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._processor.decode(list(ids))


def piece_model(
    texts: Iterable[str], kind: str, vocab: int, split_digits: bool, byte_fallback: bool
) -> bytes:
    """A model trained on the lines of the texts, the same for the same texts.

    Raises:
      ValueError: the texts cannot fill the vocabulary, or overfill it.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
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
    return model.getvalue()


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """The lines of the texts, none longer than the trainer takes.

    The trainer drops a line feed that ends a sentence. So it is shown one inside of one
    sentence, and knows it as a character: a token of its own.
    """
    shown = False
    for text in texts:
        if "\n" in text and not shown:
            beside = next((one for one in text if one != "\n"), "")
            yield f"{beside}\n{beside}"
            shown = bool(beside)
        begin = 0
        while (end := text.find("\n", begin)) >= 0:
            yield from sliced(text[begin:end], LONGEST)
            begin = end + 1
        yield from sliced(text[begin:], LONGEST)


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
