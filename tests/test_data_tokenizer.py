"""Tests data/tokenizer.py and its codecs: exact round trips, fixed ids, refusals."""

import gc
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from core.registry import Block, check
from data.codec import BOS, EOS, PAD, UNK
from data.tokenizer import TOKENIZER, Tokenizer, train

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
    ("kind", "vocab"), [("bpe", 60), ("unigram", 54), ("char", 99), ("byte", 260)]
)
def test_texts_of_known_characters_come_back_without_bytes(kind, vocab):
    tokenizer = train(TEXTS, kind=kind, vocab=vocab, byte_fallback=False)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert UNK not in ids
        assert tokenizer.decode(ids) == text
    assert (UNK in tokenizer.encode("Ω")) == (kind != "byte")


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


def test_a_char_tokenizer_has_an_id_a_character_in_their_order():
    tokenizer = train(["b\na", " \u2581\r", "\U0001f40d"], kind="char", vocab=11)
    assert tokenizer.vocab == 4 + 7
    assert tokenizer.encode("\n\r ab\u2581\U0001f40d") == list(range(4, 11))
    assert tokenizer.encode("abc") == [7, 8, UNK]
    assert tokenizer.decode([7, UNK, 8]) == "a\ufffdb"


EVERY = strategies.text(strategies.characters(exclude_categories=["Cs"]))


@settings(max_examples=200, deadline=None)
@given(text=EVERY | strategies.text(" \n\r\t\u2581\u2028\x00ab", max_size=20))
def test_characters_and_bytes_give_back_any_text_of_theirs(text):
    for tokenizer in (
        train([text], kind="char", vocab=1_000),
        train([], kind="byte", vocab=260),
    ):
        ids = tokenizer.encode(text)
        assert not {PAD, EOS, UNK, BOS} & set(ids)
        assert tokenizer.decode(ids) == text
        again = Tokenizer(tokenizer.model)
        assert (again.encode(text), again.vocab) == (ids, tokenizer.vocab)


def test_a_byte_is_an_id_and_what_is_no_text_is_shown_as_such():
    tokenizer = train(["nothing is learned"], kind="byte", vocab=8_000)
    assert tokenizer.vocab == 260
    assert tokenizer.encode("A\u00e4\n") == [69, 0xC3 + 4, 0xA4 + 4, 14]
    assert tokenizer.decode([69, 0xC3 + 4, 69, UNK]) == "A\ufffdA\ufffd"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "byte"])
def test_a_text_in_parts_has_the_ids_of_the_whole(kind, monkeypatch):
    monkeypatch.setattr("data.pieces.PART", 7)
    monkeypatch.setattr("data.characters.PART", 7)
    vocab = {"bpe": 360, "unigram": 312, "char": 99, "byte": 260}[kind]
    tokenizer = train([*TEXTS, "a\nb\n"], kind=kind, vocab=vocab)

    @settings(max_examples=100, deadline=None)
    @given(strategies.lists(strategies.sampled_from([*TEXTS, "\n", " ", "cat"])))
    def equal(texts):
        text = "".join(texts)
        parts = list(tokenizer.parts(text))
        ids, length_P = tokenizer.flat(parts)
        assert len(parts) == len(length_P) >= 1
        assert ids.tolist() == tokenizer.encode(text)
        assert ids.dtype == np.int32

    equal()
    assert len(list(tokenizer.parts("a b" * 100))) > 10


def test_lines_are_trained_on_however_long_the_text(monkeypatch):
    monkeypatch.setattr("data.pieces.LONGEST", 9)
    text = "the cat\nsat on the mat\n\n" * 40 + "the end"
    tokenizer = train([text], vocab=40, byte_fallback=False)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) < len(text) / 2


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
    with pytest.raises(ValueError, match=r"vocab=5 is too small .* alone are 6"):
        train(["ab"], kind="char", vocab=5)


def written(kind, characters):
    return json.dumps({"kind": kind, "characters": characters}).encode()


def test_bytes_that_are_no_model_are_refused():
    assert Tokenizer(written("char", "ab")).vocab == 6
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer(b"no model")
    for model in (
        b"{",
        b"{" * 100_000,
        b"{}",
        b'{"kind": "char"}',
        b'{"kind": "char", "characters": 7}',
        b'{"kind": "char", "characters": ["a", "b"]}',
        written("char", "ba"),
        written("char", "aab"),
        written("byte", "a"),
        written("word", "ab"),
        written("char", "\ud800"),
        written("char", "ab") + b" ",
    ):
        with pytest.raises(ValueError, match="not a tokenizer of characters or bytes"):
            Tokenizer(model)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(kind="bep"), r"tokenizer\.kind='bep'.* Did you mean 'bpe'"),
        (dict(vocab=4), r"tokenizer\.vocab=4 must lie in \[5"),
        (dict(vocab=260), r"vocab=260 must be more than 260.*byte_fallback"),
        (dict(kind="byte", vocab=259), r"vocab=259 must be at least 260"),
        (dict(vocab=8.0), r"vocab=8\.0 must be"),
        (dict(vcab=8), r"tokenizer\.vcab=8 is not known\. Did you mean 'vocab'"),
    ],
)
def test_a_config_is_checked_before_anything_is_read(options, match):
    with pytest.raises(ValueError, match=match):
        check(options, Block(TOKENIZER, given=("texts",)), "tokenizer")
