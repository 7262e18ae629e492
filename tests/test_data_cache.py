"""Tests data/cache.py: written whole, verified, built again when damaged."""

import json
import logging
import os
import pathlib
import re

import numpy as np
import pytest

from data import cache


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("STEEPEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes an entry and counts how often it was asked to."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        arrays = {"token": np.arange(1_000, dtype=np.uint16), "tokens_R": np.ones(3)}
        return cache.Entry(arrays, {"train": {"pairs": 3}})


def test_an_entry_is_made_once_and_then_mapped(root):
    make = Maker()
    first, second = (cache.fetch("rows", "abc", make) for _ in range(2))
    assert make.calls == 1
    for entry in (first, second):
        assert isinstance(entry.arrays["token"], np.memmap)
        assert not entry.arrays["token"].flags.writeable
        np.testing.assert_array_equal(entry.arrays["token"], np.arange(1_000))
        assert entry.facts == {"train": {"pairs": 3}}
    cache.fetch("rows", "abd", make)
    assert make.calls == 2


@pytest.mark.parametrize("name", ["token.npy", "tokens_R.npy", cache.MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "empty"])
def test_damage_is_found_and_the_entry_built_again(root, name, damage, caplog):
    make = Maker()
    cache.fetch("rows", "abc", make)
    path = root / "rows" / "abc" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
    if damage == "cut":
        del content[-1:]
    path.write_bytes(b"" if damage == "empty" else bytes(content))
    if damage == "gone":
        path.unlink()
    with caplog.at_level(logging.WARNING):
        entry = cache.fetch("rows", "abc", make)
    assert make.calls == 2
    np.testing.assert_array_equal(entry.arrays["token"], np.arange(1_000))
    (warning,) = caplog.messages
    assert re.fullmatch(r"Cache entry .* is damaged \(.*\): built again\.", warning)
    cache.fetch("rows", "abc", make)
    assert make.calls == 2
    assert [path.name for path in (root / "rows").iterdir()] == ["abc"]


def test_every_byte_of_an_array_is_covered(root):
    make = Maker()
    cache.fetch("rows", "abc", make)
    path = root / "rows" / "abc" / "tokens_R.npy"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(cache.Damaged):
            cache.load(path.parent)


def test_facts_are_covered_as_well(root):
    cache.fetch("rows", "abc", Maker())
    path = root / "rows" / "abc" / cache.MANIFEST
    path.write_text(path.read_text().replace('"pairs": 3', '"pairs": 4'))
    with pytest.raises(cache.Damaged, match="manifest"):
        cache.load(path.parent)


def test_a_manifest_that_lies_is_damage_and_no_traceback(root):
    cache.fetch("rows", "abc", Maker())
    folder = root / "rows" / "abc"
    for text in (
        "[]",
        "{}",
        '{"body": 1, "sum": 2}',
        "[" * 9,
        '{"body": {}, "sum": ""}',
    ):
        (folder / cache.MANIFEST).write_text(text)
        with pytest.raises(cache.Damaged):
            cache.load(folder)
    assert json.loads("{}") == {}


def test_a_crash_while_writing_leaves_nothing_to_be_found(root, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    make = Maker()
    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        cache.fetch("rows", "abc", make)
    monkeypatch.undo()
    os.environ["STEEPEST_CACHE"] = str(root)
    assert list((root / "rows").iterdir()) == []
    cache.fetch("rows", "abc", make)
    assert make.calls == 2


def test_of_two_processes_the_first_keeps_its_entry(root):
    first = None

    def make_slowly():
        nonlocal first
        cache.fetch("rows", "abc", Maker())  # the other one, which is done first
        first = (root / "rows" / "abc").stat().st_ino
        return Maker()()

    entry = cache.fetch("rows", "abc", make_slowly)
    assert entry.facts == {"train": {"pairs": 3}}
    assert (root / "rows" / "abc").stat().st_ino == first
    assert [path.name for path in (root / "rows").iterdir()] == ["abc"]


def test_what_a_killed_process_left_is_swept_after_a_day(root):
    old, young = root / "rows" / ".writing-old", root / "rows" / ".writing-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    cache.fetch("rows", "abc", Maker())
    assert not old.exists()
    assert young.exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEEPEST_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be written.*set STEEPEST_CACHE"):
        cache.fetch("rows", "abc", Maker())


def test_the_default_place_is_in_the_users_cache(monkeypatch):
    monkeypatch.delenv("STEEPEST_CACHE")
    assert cache.root() == pathlib.Path.home() / ".cache" / "steepest"
