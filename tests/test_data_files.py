"""Tests data/files.py and parquet.py: a user's files, and what is wrong in them."""

import gzip
import importlib.util
import json

import pyarrow
import pytest
from pyarrow import parquet

import data
from core.registry import Block, build, check

PAIRS = [("one  cat", "eine Katze"), ("two\u2028dogs\x85", "zwei\xa0Hunde"), ("", "x")]
RECORDS = [{"source": source, "target": target} for source, target in PAIRS]


def write(folder, name, pairs=PAIRS):
    """One split in the format of a source; the columns are `en` and `de`."""
    rows = [{"en": source, "de": target} for source, target in pairs]
    if name == "parallel":
        for column in ("en", "de"):
            text = "".join(row[column] + "\n" for row in rows)
            (folder / f"train.{column}").write_bytes(text.encode())
    if name == "tsv":
        text = "id\tde\ten\n" + "".join(f"7\t{r['de']}\t{r['en']}\n" for r in rows)
        (folder / "train.tsv").write_bytes(text.encode())
    if name == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "train.jsonl").write_bytes(text.encode())
    if name == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "train.parquet")


def source(folder, name, **options):
    columns = dict(source="en", target="de", validation="", test="")
    config = dict(name=name, folder=str(folder)) | columns | options
    check(config, Block(data.SOURCES), "data")
    return build(data.SOURCES, config, "data")


@pytest.mark.parametrize("name", ["parallel", "tsv", "jsonl", "parquet"])
def test_records_are_the_named_columns_as_they_stand(tmp_path, name):
    write(tmp_path, name)
    assert list(source(tmp_path, name).records("train")) == RECORDS
    assert source(tmp_path, name).splits == ("train",)


@pytest.mark.parametrize("name", ["parallel", "tsv", "jsonl"])
def test_a_gz_is_read_as_well(tmp_path, name):
    write(tmp_path, name)
    plain = source(tmp_path, name).digest()
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert list(source(tmp_path, name).records("train")) == RECORDS
    assert source(tmp_path, name).digest() != plain


@pytest.mark.parametrize("name", ["parallel", "tsv", "jsonl", "parquet"])
def test_the_digest_is_that_of_the_content(tmp_path, name):
    write(tmp_path, name)
    first = source(tmp_path, name).digest()
    write(tmp_path, name)
    assert source(tmp_path, name).digest() == first
    write(tmp_path, name, [*PAIRS[:-1], ("", "y")])
    assert source(tmp_path, name).digest() != first
    assert (
        source(tmp_path, name, source="de").digest() != source(tmp_path, name).digest()
    )


def test_line_ends_of_windows_and_a_byte_order_mark_are_no_text(tmp_path):
    (tmp_path / "train.en").write_bytes(b"\xef\xbb\xbfa\r\nb \r\nc")
    (tmp_path / "train.de").write_bytes(b"A\nB\nC\n")
    texts = [r["source"] for r in source(tmp_path, "parallel").records("train")]
    assert texts == ["a", "b ", "c"]


def test_a_column_may_be_inside_another(tmp_path):
    rows = [{"translation": {"en": "a", "de": "b"}, "x.y": "c"}]
    (tmp_path / "train.jsonl").write_text(json.dumps(rows[0]) + "\n\n")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    for name in ("jsonl", "parquet"):
        nested = source(tmp_path, name, source="translation.en", target="x.y")
        assert list(nested.records("train")) == [{"source": "a", "target": "c"}]


def fails(folder, name, match, kind=ValueError, **options):
    with pytest.raises(kind, match=match) as error:
        list(source(folder, name, **options).records("train"))
    assert "\n" not in str(error.value)


def test_unequal_files_are_named_with_their_counts(tmp_path):
    write(tmp_path, "parallel")
    (tmp_path / "train.de").write_text("eins\nzwei\n")
    fails(
        tmp_path, "parallel", r"train\.en has 3 lines and .*train\.de has 2: parallel"
    )


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path):
    write(tmp_path, "parallel")
    (tmp_path / "train.de").write_bytes(b"gut\nsch\xf6n\nja\n")
    fails(tmp_path, "parallel", r"train\.de line 2 is not UTF-8 \(byte 4: 0xf6\)")


def test_a_file_that_is_not_there_is_named(tmp_path):
    match = r"data\.train: there is no .*train\.en and no train\.en\.gz"
    fails(tmp_path, "parallel", match, FileNotFoundError)
    fails(
        tmp_path / "no", "tsv", r"data\.folder='.*no' is not a fol", FileNotFoundError
    )
    match = r"data\.train: there is no .*/x\.jsonl and"
    fails(tmp_path, "jsonl", match, FileNotFoundError, train="x.jsonl")


TORN = gzip.compress(b"a\nb\n" * 999)[:-12]


@pytest.mark.parametrize("content", [b"no gzip", TORN], ids=["none", "torn"])
def test_a_broken_gz_is_named(tmp_path, content):
    (tmp_path / "train.tsv.gz").write_bytes(content)
    fails(tmp_path, "tsv", r"train\.tsv\.gz cannot be read", source="a", target="a")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("tsv", "en\tfr\n", r"train\.tsv has no column 'de' \(data\.target\).*'fr'"),
        ("tsv", "en\tde\na\tb\nc\n", r"train\.tsv line 3 has 1 cells, its header 2"),
        ("tsv", "", r"train\.tsv has no column 'en'"),
        (
            "jsonl",
            '{"en": "a"}',
            r"line 1 has no column 'de' \(data\.target\).*\['en'\]",
        ),
        ("jsonl", '{"en": "a", "de": 1}', r"line 1: column 'de' holds 1, not text"),
        ("jsonl", '{"en": "a", "de": null}', r"column 'de' holds None, not text"),
        ("jsonl", '{"en": "a", "de": "\\ud800"}', r"line 1: .* half a surrogate"),
        ("jsonl", "[1]", r"line 1 has no column 'en'"),
        ("jsonl", '\n{"en":', r"train\.jsonl line 2 is not JSON"),
        ("jsonl", "[" * 100_000, r"train\.jsonl line 1 is not JSON"),
        ("parquet", "PAR1", r"train\.parquet cannot be read as Parquet"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, name, content, match):
    (tmp_path / f"train.{name}").write_text(content)
    fails(tmp_path, name, match)


def test_a_parquet_without_the_column_is_one_line(tmp_path):
    write(tmp_path, "parquet")
    fails(
        tmp_path, "parquet", r"has no column 'fr' \(data\.target\).*'en'", target="fr"
    )
    rows = pyarrow.Table.from_pylist([{"en": "a", "de": 3}])
    parquet.write_table(rows, tmp_path / "train.parquet")
    fails(tmp_path, "parquet", r"row 1: column 'de' holds 3, not text")


def test_a_source_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'steepest\[parquet\]'"):
        source(tmp_path, "parquet")
    with pytest.raises(ValueError, match=r"pip install 'steepest\[hub\]'"):
        data.SOURCES["hub"].build(path="x")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(folder="x", sourc="en"), r"data\.sourc='en' is not known.*Did you mean"),
        (dict(), r"data\.folder has no value"),
        (dict(folder=3), r"data\.folder=3 must be"),
    ],
)
def test_options_are_checked_against_the_signature(options, match):
    with pytest.raises(ValueError, match=match):
        check(dict(name="tsv") | options, data.BLOCKS["data"], "data")


@pytest.mark.parametrize("name", sorted(data.SOURCES))
def test_every_source_takes_a_train_split_by_default(name):
    entry = data.SOURCES[name]
    required = dict(parallel=("folder",), tsv=("folder",), jsonl=("folder",))
    required |= dict(text=("folder",), parquet=("folder",), hub=("path",), cldr=())
    config = dict(name=name) | dict.fromkeys(required[name], "x")
    check(config, data.BLOCKS["data"], "data")
    if name != "hub" or importlib.util.find_spec("datasets"):
        built = entry.build(**{k: v for k, v in config.items() if k != "name"})
        assert built.splits == ("train", "validation", "test")
