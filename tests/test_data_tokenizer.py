"""Tests data/tokenizer.py: exact round trips, fixed ids, clear refusals."""

import gc

import pytest
from hypothesis import given, settings, strategies

from core.registry import Block, check
from data.tokenizer import BOS, EOS, PAD, TOKENIZER, UNK, Tokenizer, train

TEXTS = [
    "1\u202f234,5\xa0% of  the  cats",
    " the cat sat on the mat ",
    "Mittwoch, 18. September 2024, 15:05",
    "ein Kätzchen sitzt auf der Matte",
    "２０２４年９月１８日",
] * 3


@pytest.fixture(scope="module")
def bpe():
    return train(TEXTS, kind="bpe", vocab=360)


# U+2581 is SentencePiece's own sign for the space, as its documentation says.
ANY = strategies.text(
    strategies.characters(exclude_categories=["Cs"], exclude_characters="\u2581")
)


@settings(max_examples=300, deadline=None)
@given(text=ANY | strategies.text(" \xa0\u202f\u3000\tab1.", max_size=20))
def test_any_text_comes_back_as_it_was(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


@pytest.mark.parametrize(
    ("kind", "vocab"), [("bpe", 60), ("unigram", 54), ("char", 99)]
)
def test_texts_of_known_characters_come_back_without_bytes(kind, vocab):
    tokenizer = train(TEXTS, kind=kind, vocab=vocab, byte_fallback=False)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert UNK not in ids
        assert tokenizer.decode(ids) == text
    assert UNK in tokenizer.encode("Ω")


def test_the_special_ids_are_fixed_and_never_in_a_text(bpe):
    assert (PAD, EOS, UNK, BOS) == (0, 1, 2, 3)
    for text in ("<pad>", "</s> a", "<s>", "<unk>", "<0x41>"):
        assert not {PAD, EOS, UNK, BOS} & set(bpe.encode(text))
        assert bpe.decode(bpe.encode(text)) == text


def test_decoding_stops_at_the_end_and_skips_padding(bpe):
    cat, mat = bpe.encode("the cat"), bpe.encode("the mat")
    assert bpe.decode([BOS, *cat, EOS, *mat]) == "the cat"
    assert bpe.decode([*cat, PAD, PAD]) == "the cat"
    assert bpe.decode([]) == ""


def test_training_twice_gives_the_same_bytes(bpe):
    assert train(TEXTS, kind="bpe", vocab=360).model == bpe.model
    unigram = [train(TEXTS, kind="unigram", vocab=312).model for _ in range(2)]
    assert unigram[0] == unigram[1]


def test_a_model_is_all_that_is_needed(bpe):
    again = Tokenizer(bpe.model)
    assert again.vocab == bpe.vocab == 360
    assert again.encode(TEXTS[0]) == bpe.encode(TEXTS[0])
    assert again.encode_all(TEXTS) == [bpe.encode(text) for text in TEXTS]
    del again
    gc.collect()


def test_digits_are_pieces_of_their_own(bpe):
    assert len(bpe.encode("18. September 2024")) >= 6 + len(bpe.encode(". September "))
    small = dict(vocab=8, byte_fallback=False)
    years = ["2024 2024 2024 2024"] * 9
    assert len(train(years, **small).encode("2024")) == 5
    small["vocab"] = 11
    assert len(train(years, split_digits=False, **small).encode("2024")) < 4


def test_a_char_tokenizer_has_a_piece_a_character():
    tokenizer = train(["abc"], kind="char", vocab=100, byte_fallback=False)
    assert tokenizer.vocab == 4 + 3 + 1  # and the space


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_vocabulary_that_the_corpus_cannot_fill_is_one_line(kind):
    with pytest.raises(
        ValueError, match=r"tokenizer\.vocab=9000 is too big .* \d+ pie"
    ):
        train(TEXTS, kind=kind, vocab=9_000)


def test_a_vocabulary_that_the_characters_overfill_is_one_line():
    match = r"tokenizer\.vocab=270 is too small .* special ids alone are \d+"
    with pytest.raises(ValueError, match=match) as error:
        train(TEXTS, kind="bpe", vocab=270)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer(b"no model")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(kind="bep"), r"tokenizer\.kind='bep'.* Did you mean 'bpe'"),
        (dict(vocab=4), r"tokenizer\.vocab=4 must lie in \[5"),
        (dict(vocab=260), r"vocab=260 must be more than 260.*byte_fallback"),
        (dict(vocab=8.0), r"vocab=8\.0 must be"),
        (dict(vcab=8), r"tokenizer\.vcab=8 is not known\. Did you mean 'vocab'"),
    ],
)
def test_a_config_is_checked_before_anything_is_read(options, match):
    with pytest.raises(ValueError, match=match):
        check(options, Block(TOKENIZER, given=("texts",)), "tokenizer")
