"""Tests data/packing/stream.py and joined.py: rows of a language model."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings, strategies

import data
from core.registry import Block, check
from data.codec import BOS, EOS
from data.packing import PACKING, Joined, Stream
from data.packing.joined import join, row_length
from data.packing.stream import cut
from data.ragged import Ragged
from data.tokenizer import train

DOCUMENTS = strategies.lists(
    strategies.text("ab ä€\n", max_size=20), min_size=1, max_size=8
)


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_stream_has_every_token_of_every_document_once(kind, monkeypatch):
    monkeypatch.setattr("data.packing.stream.CHUNK", 16)
    for codec in ("pieces", "characters"):
        monkeypatch.setattr(f"data.{codec}.PART", 5)
    tokenizer = train(["ab ä€ ab a\nb"] * 9, kind=kind, vocab=269)

    @settings(max_examples=150, deadline=None)
    @given(documents=DOCUMENTS, length=strategies.integers(2, 12))
    def whole(documents, length):
        records = iter([{"text": text} for text in documents])
        rows, stats = Stream(length=length).pack(records, tokenizer, None)
        expected = [[*tokenizer.encode(text), EOS] for text in documents]
        held_BL = rows["segment_BL"] > 0
        assert rows["target_BL"][held_BL].tolist() == list(chain(*expected))
        before = [[BOS, *tokens[:-1]] for tokens in expected]
        assert rows["input_BL"][held_BL].tolist() == list(chain(*before))

        np.testing.assert_array_equal(rows["tokens_R"], held_BL.sum(1))
        assert held_BL.reshape(-1)[: stats["tokens"]].all()
        assert not rows["input_BL"][~held_BL].any()
        assert not rows["target_BL"][~held_BL].any()
        assert stats["rows"] == -(-stats["tokens"] // length)
        assert stats["documents"] == len(documents)
        assert stats["bytes"] == sum(len(text.encode()) for text in documents)

    whole()


@settings(max_examples=100, deadline=None)
@given(
    lengths=strategies.lists(strategies.integers(1, 30), min_size=1),
    L=strategies.integers(2, 12),
)
def test_segments_number_the_documents_of_a_row(lengths, L):
    documents = [[9] * (length - 1) + [EOS] for length in lengths]
    number = np.repeat(np.arange(len(lengths)), lengths)
    segment_BL = cut(np.array(list(chain(*documents))), L)["segment_BL"]
    for row, segment_L in enumerate(segment_BL):
        number_L = number[row * L : (row + 1) * L]
        assert (
            segment_L[: len(number_L)].tolist() == (1 + number_L - number_L[0]).tolist()
        )
        assert not segment_L[len(number_L) :].any()


def test_a_stream_is_kept_in_as_few_bytes_as_its_vocabulary_needs():
    for kind, small in (("char", np.uint8), ("byte", np.uint16)):
        tokenizer = train(["ab"], kind=kind, vocab=300)
        rows, _ = Stream(length=4).pack(iter([{"text": "abba"}]), tokenizer, None)
        assert rows["input_BL"].dtype == rows["target_BL"].dtype == small
    wide = cut(np.full(600, EOS), 300)  # a document a place
    assert wide["segment_BL"].max() == 300


def ragged(texts):
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Ragged(np.array(list(chain(*texts)), np.int32), starts)


PAIRS = strategies.lists(
    strategies.tuples(*[strategies.lists(strategies.integers(4, 99), max_size=9)] * 2),
    min_size=1,
)


@settings(max_examples=150, deadline=None)
@given(pairs=PAIRS)
def test_joined_rows_give_back_every_pair_once(pairs):
    source, target = ([[*pair[n], EOS] for pair in pairs] for n in (0, 1))
    rows = join(ragged(source), ragged(target), 24)
    found = []
    for row in range(len(rows["tokens_R"])):
        input_L, target_L, segment_L, prefix_L = (
            rows[f"{name}_BL"][row] for name in ("input", "target", "segment", "prefix")
        )
        assert (segment_L > 0).sum() == rows["tokens_R"][row]
        for part_L in (input_L, target_L, prefix_L):
            assert not part_L[segment_L == 0].any()
        for n in range(1, segment_L.max() + 1):
            mine = segment_L == n
            prompt = prefix_L[mine] == 1
            assert prompt.tolist() == sorted(prompt, reverse=True)
            assert not target_L[mine][prompt].any()
            s, t = input_L[mine][prompt], target_L[mine][~prompt]
            assert input_L[mine][~prompt].tolist() == [BOS, *t[:-1]]
            assert (s[-1], t[-1]) == (EOS, EOS)
            found.append((s[:-1].tolist(), t[:-1].tolist()))
    assert sorted(found) == sorted(pairs)


def test_joined_rows_are_full_and_no_longer_than_needed():
    length_P = 8 + np.random.default_rng(0).binomial(60, 0.3, 4_000)
    settings = Joined(max_tokens=256, min_fill_share=0.92)
    L = row_length(length_P, settings)
    full = ragged([[5] * (n - 1) + [EOS] for n in length_P - 4])
    rows = join(full, ragged([[6, 6, 6, EOS]] * len(length_P)), L)
    assert rows["tokens_R"].sum() >= 0.92 * rows["input_BL"].size
    assert length_P.max() <= L <= 2 * length_P.max()
    fuller = row_length(length_P, Joined(max_tokens=256, min_fill_share=0.99))
    assert L < fuller <= 256


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STEEPEST_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "text"
    folder.mkdir()
    text = "To be, or not to be:\nthat is the question.\n\n" * 40
    (folder / "train.txt").write_text(text)
    for split in ("train", "validation"):
        (folder / f"{split}.en").write_text("a cat\na dog\n\n" * 9 + "a dog " * 9)
        (folder / f"{split}.de").write_text("EIN\nZWEI\nDREI\n" * 9 + "V")
    return folder


def config(folder, packing, **source):
    return dict(
        data=dict(folder=str(folder)) | source,
        tokenizer=dict(kind="char", vocab=100),
        packing=packing,
    )


def test_text_is_prepared_to_batches_of_its_own_columns(folder):
    blocks = config(folder, dict(name="stream", length=32), name="text")
    prepared = data.prepare(blocks)
    assert data.prepare(blocks).digest == prepared.digest
    raw = (folder / "train.txt").read_text()
    told = "".join(
        prepared.tokenizer.decode(prepared.rows[split]["target_BL"].reshape(-1))
        for split in ("train", "validation", "test")
    )
    assert told == raw
    assert sum(stats["bytes"] for stats in prepared.stats.values()) == len(raw)
    for split, stats in prepared.stats.items():
        assert stats["tokens"] == stats["bytes"] + 1  # a character a byte, and EOS
        assert stats["tokens"] == prepared.rows[split]["tokens_R"].sum()
    batches = data.Batches(prepared.rows["train"], batch_size=4, seed=0)
    columns = {"input_BL", "target_BL", "segment_BL"}
    assert set(batches.batch(0)) == columns
    assert {x.shape for x in batches.batch(0).values()} == {(4, 32)}
    (last,) = data.in_order(prepared.rows["test"], batch_size=8)
    assert set(last) == columns
    longer = config(folder, dict(name="stream", length=33), name="text")
    assert data.prepare(longer).digest != prepared.digest


def test_pairs_are_prepared_joined(folder):
    packing = dict(name="joined", max_tokens=16)
    source = dict(name="parallel", source="en", target="de", test="")
    prepared = data.prepare(config(folder, packing, **source))
    train, valid = prepared.stats["train"], prepared.stats["validation"]
    assert (train["pairs"], train["dropped_blank"], train["dropped_long"]) == (28, 9, 1)
    assert (valid["pairs"], valid["dropped_blank"], valid["dropped_long"]) == (28, 0, 0)
    assert prepared.rows["train"]["input_BL"].shape[1] == 16
    assert prepared.rows["validation"]["input_BL"].shape[1] == 64
    batch = data.Batches(prepared.rows["train"], batch_size=2, seed=0).batch(0)
    assert set(batch) == {"input_BL", "target_BL", "segment_BL", "prefix_BL"}


PARALLEL = dict(name="parallel", source="en", target="de", test="")


@pytest.mark.parametrize(
    ("packing", "source", "match"),
    [
        ("pairs", dict(name="text"), r"'pairs' does not fit data\.name='text'.*stream"),
        (
            "joined",
            dict(name="text"),
            r"records have \['text'\]\. Known .*\['stream'\]",
        ),
        ("stream", PARALLEL, r"'stream' does not fit .*\['pairs', 'joined'\]"),
    ],
)
def test_a_packing_that_reads_other_columns_is_one_line(folder, packing, source, match):
    for look in (data.validate, data.prepare):
        with pytest.raises(ValueError, match=match) as error:
            look(config(folder, dict(name=packing), **source))
        assert "\n" not in str(error.value)
    assert not (folder.parent / "cache").exists()


def test_a_text_too_short_to_be_split_is_one_line(folder):
    (folder / "train.txt").write_text("abc")
    match = r"the split 'validation' is empty: nothing in it has text"
    with pytest.raises(ValueError, match=match):
        data.prepare(config(folder, dict(name="stream"), name="text"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(name="stram"), r"packing\.name='stram' is not .* Did you mean 'stream'"),
        (dict(name="stream", length=1), r"packing\.length=1 must lie in \[2"),
        (dict(name="stream", max_tokens=9), r"packing\.max_tokens=9 is not known"),
        (dict(max_tokens=9), r"packing\.name has no value.*'joined', 'pairs', 'str"),
    ],
)
def test_a_packing_is_checked(options, match):
    with pytest.raises(ValueError, match=match):
        check(options, Block(PACKING), "packing")
