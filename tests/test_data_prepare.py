"""Tests data/prepare.py: from a config to rows, once, and never from bad data."""

import logging

import numpy as np
import pytest

import data
import data.tokenizer

WORDS = "the cat sat on a mat and saw two small dogs run by old green house"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("STEEPEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """A parallel corpus whose target is the source, backwards and in capitals."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "text"
    folder.mkdir()
    for split, num_pairs in (("train", 300), ("validation", 20), ("test", 30)):
        lines = [
            " ".join(rng.choice(WORDS.split(), rng.integers(1, 9)))
            for _ in range(num_pairs)
        ]
        (folder / f"{split}.en").write_text("\n".join(lines) + "\n")
        upper = [" ".join(reversed(line.upper().split())) for line in lines]
        (folder / f"{split}.de").write_text("\n".join(upper) + "\n")
    return folder


def config(folder, **blocks):
    whole = dict(
        data=dict(name="parallel", folder=str(folder), source="en", target="de"),
        tokenizer=dict(kind="bpe", vocab=100, byte_fallback=False),
        packing=dict(name="pairs", max_tokens=64),
    )
    return {name: block | blocks.get(name, {}) for name, block in whole.items()}


def append(path, text):
    path.write_text(path.read_text() + text)


def texts_of(prepared, split):
    """The pairs of a split's rows, decoded."""
    rows, decode = prepared.rows[split], prepared.tokenizer.decode
    for row in range(len(rows["tokens_R"])):
        for n in range(1, rows["source_segment_BM"][row].max() + 1):
            source = rows["source_BM"][row][rows["source_segment_BM"][row] == n]
            target = rows["target_BL"][row][rows["target_segment_BL"][row] == n]
            assert source[-1] == target[-1] == data.tokenizer.EOS
            yield decode(source), decode(target)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_rows_say_what_the_files_say(root, folder, split):
    prepared = data.prepare(config(folder))
    pairs = [(r["source"], r["target"]) for r in prepared.records(split)]
    assert sorted(texts_of(prepared, split)) == sorted(pairs)
    stats = prepared.stats[split]
    assert stats["pairs"] == len(pairs)
    assert stats["tokens"] == prepared.rows[split]["tokens_R"].sum()
    assert stats["rows"] == len(prepared.rows[split]["source_BM"])


def test_records_keep_the_order_of_the_file(root, folder):
    prepared = data.prepare(config(folder))
    lines = (folder / "test.en").read_text().splitlines()
    assert [record["source"] for record in prepared.records("test")] == lines


def test_the_second_time_nothing_is_trained_or_tokenised(root, folder, monkeypatch):
    first = data.prepare(config(folder))
    before = sorted(path for path in root.rglob("*"))

    def never(*_, **__):
        raise AssertionError("tokenised again")

    monkeypatch.setattr(data.tokenizer.Tokenizer, "flat", never)
    monkeypatch.setattr("sentencepiece.SentencePieceTrainer.train", never)
    second = data.prepare(config(folder))
    assert second.digest == first.digest
    assert second.tokenizer.model == first.tokenizer.model
    assert sorted(path for path in root.rglob("*")) == before
    for name, array in first.rows["train"].items():
        np.testing.assert_array_equal(array, second.rows["train"][name])


def test_a_flipped_byte_in_the_cache_is_repaired_with_one_warning(root, folder, caplog):
    first = data.prepare(config(folder))
    whole = {k: np.array(v) for k, v in first.rows["train"].items()}
    (path,) = root.glob("rows/*/train-target_BL.npy")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        second = data.prepare(config(folder))
    assert len(caplog.messages) == 1
    assert second.digest == first.digest
    for name, array in whole.items():
        np.testing.assert_array_equal(array, second.rows["train"][name])


def test_content_tokenizer_and_packing_each_have_their_key(root, folder):
    digests = {data.prepare(config(folder)).digest}
    digests.add(data.prepare(config(folder, packing={"max_tokens": 48})).digest)
    digests.add(data.prepare(config(folder, tokenizer={"vocab": 90})).digest)
    path = folder / "validation.en"
    path.write_text(path.read_text().replace("cat", "dog"))
    digests.add(data.prepare(config(folder)).digest)
    assert len(digests) == 4


def test_a_resumed_run_with_its_own_tokenizer_has_the_same_digest(root, folder):
    first = data.prepare(config(folder))
    again = config(folder, tokenizer={"vocab": 77})  # not looked at any more
    second = data.prepare(again, tokenizer_model=first.tokenizer.model)
    assert second.digest == first.digest
    assert second.tokenizer.model == first.tokenizer.model
    assert len(list(root.glob("tokenizer/*"))) == 1


def test_a_tokenizer_is_that_of_the_training_split(root, folder):
    first = data.prepare(config(folder)).tokenizer.model
    (folder / "test.en").write_text("zzz\n" * 30)
    assert data.prepare(config(folder)).tokenizer.model == first
    path = folder / "train.en"
    path.write_text(path.read_text().replace("cat", "qqq"))
    assert data.prepare(config(folder)).tokenizer.model != first


def test_pairs_too_long_are_dropped_from_training_alone_and_counted(root, folder):
    for split in ("train", "validation"):
        for side in ("en", "de"):
            append(folder / f"{split}.{side}", "cat " * 200 + "\n")
    prepared = data.prepare(config(folder))
    assert prepared.stats["train"]["dropped_long"] == 1
    assert prepared.stats["train"]["pairs"] == 301
    assert len(list(texts_of(prepared, "train"))) == 300
    assert prepared.rows["train"]["source_BM"].shape[1] <= 64
    assert prepared.stats["validation"]["dropped_long"] == 0
    assert len(list(texts_of(prepared, "validation"))) == 21


def test_pairs_without_text_on_one_side_are_not_trained_on(root, folder):
    for split in ("train", "validation"):
        append(folder / f"{split}.en", "\ncat\n")
        append(folder / f"{split}.de", "DOG\n\n")
    prepared = data.prepare(config(folder))
    assert prepared.stats["train"]["dropped_blank"] == 2
    assert len(list(texts_of(prepared, "train"))) == 300
    assert ("", "DOG") in list(texts_of(prepared, "validation"))


def test_max_tokens_that_leave_nothing_are_one_line(root, folder):
    (folder / "train.en").write_text("cat on the mat and a dog " * 9 + "\n")
    (folder / "train.de").write_text("DOG ON THE MAT AND A CAT " * 9 + "\n")
    bad = config(folder, packing={"max_tokens": 8}, tokenizer={"vocab": 40})
    with pytest.raises(
        ValueError, match=r"max_tokens=8 leaves nothing.* has \d+ tokens"
    ):
        data.prepare(bad)


def break_(folder, how):
    if how == "empty":
        for side in ("en", "de"):
            (folder / f"validation.{side}").write_text("")
    if how == "blank":
        for side in ("en", "de"):
            (folder / f"train.{side}").write_text(" \n" * 300)
    if how == "unequal":
        (folder / "test.de").write_text("EINS\n")
    if how == "bytes":
        (folder / "validation.de").write_bytes(b"\xff\n" * 20)
    if how == "gone":
        (folder / "test.en").unlink()


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("empty", r"the split 'validation' is empty"),
        ("blank", r"the split 'train' is empty: nothing in it has text"),
        ("unequal", r"test\.en has 30 lines and .*test\.de has 1"),
        ("bytes", r"validation\.de line 1 is not UTF-8"),
        ("gone", r"data\.test: there is no .*test\.en"),
    ],
)
def test_bad_data_is_one_line_and_touches_no_disk(root, folder, how, match):
    break_(folder, how)
    for look in (data.validate, data.prepare):
        with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
            look(config(folder))
        assert "\n" not in str(error.value)
    assert not root.exists()


def test_validating_counts_and_writes_nothing(root, folder):
    counts = data.validate(config(folder))
    assert counts == {"train": 300, "validation": 20, "test": 30}
    assert not root.exists()


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        (dict(data={"name": "cldrr"}), r"data\.name='cldrr' .* Did you mean 'cldr'"),
        (dict(packing={"max_tokens": 1}), r"packing\.max_tokens=1 must lie in"),
        (dict(tokenizer={"kind": "wordpiece"}), r"tokenizer\.kind='wordpiece' is not"),
        (dict(tokenizer={"vocab": 9_000}), r"tokenizer\.vocab=9000 is too big"),
    ],
)
def test_a_bad_config_touches_no_disk(root, folder, blocks, match):
    with pytest.raises(ValueError, match=match):
        data.prepare(config(folder, **blocks))
    assert not root.exists()


def test_a_lesson_is_prepared_and_92_percent_full(root):
    lesson = dict(name="cldr", num_pairs=8_000, num_validation=100, num_test=100)
    blocks = dict(data=lesson, tokenizer=dict(vocab=700), packing=dict(name="pairs"))
    prepared = data.prepare(blocks)
    assert prepared.stats["train"]["fill_share"] >= 0.92
    assert max(prepared.rows["train"]["source_BM"].shape[1:]) <= 48
    other = blocks | {"data": blocks["data"] | {"seed": 1}}
    assert data.prepare(other).digest != prepared.digest
    for record in prepared.records("test"):
        text = record["target"]
        assert prepared.tokenizer.decode(prepared.tokenizer.encode(text)) == text
