"""Tests data/hub.py through the `datasets` package, on local files."""

import json
import pathlib
import tempfile

import pytest

import data
from data.hub import Hub

datasets = pytest.importorskip("datasets", reason="pip install 'steepest[hub]'")
COLUMNS = dict(source="translation.en", target="translation.de")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two splits. (Not in `tmp_path`, for `datasets` reads its `test_` as a split.)"""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="corpus-") as name:
        write(pathlib.Path(name))
        yield pathlib.Path(name)


def write(folder):
    for split, texts in (("train", ["a", "b"]), ("validation", ["c"])):
        rows = [{"translation": {"en": text, "de": text.upper()}} for text in texts]
        content = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(content)


def test_records_are_those_of_the_data_set(folder):
    source = data.SOURCES["hub"].build(path=str(folder), test="", **COLUMNS)
    assert isinstance(source, Hub)
    assert source.splits == ("train", "validation")
    assert list(source.records("train")) == [
        {"source": "a", "target": "A"},
        {"source": "b", "target": "B"},
    ]


def test_the_digest_is_that_of_the_content(folder):
    def digest():
        return data.SOURCES["hub"].build(path=str(folder), test="", **COLUMNS).digest()

    first = digest()
    assert digest() == first
    (folder / "validation.jsonl").write_text(
        '{"translation": {"en": "c", "de": "D"}}\n'
    )
    assert digest() != first


def test_a_split_or_column_that_is_not_there_is_one_line(folder):
    with pytest.raises(ValueError, match=r"split 'test' cannot be loaded") as error:
        list(data.SOURCES["hub"].build(path=str(folder), **COLUMNS).records("test"))
    assert "\n" not in str(error.value)
    source = data.SOURCES["hub"].build(path=str(folder), source="x", target="x")
    with pytest.raises(ValueError, match=r"has no column 'x' \(data\.source\)"):
        list(source.records("train"))
    columns = dict(source="translation.fr", target="translation.de")
    source = data.SOURCES["hub"].build(path=str(folder), **columns)
    with pytest.raises(ValueError, match=r"row 1 has no column 'translation\.fr'"):
        list(source.records("train"))
