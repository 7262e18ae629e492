"""README.md: its commands work as they stand there, at a tiny size."""

import itertools
import pathlib
import re
import shlex

import pytest

import launch

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    python launch.py (.*)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place to run in, with text of the user's own in DIR."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "DIR").mkdir()
    words = [
        "a",
        "the",
        "one",
        "dog",
        "cat",
        "man",
        "girl",
        "runs",
        "sees",
        "reads",
        "red",
        "old",
    ]
    lines = [" ".join(line) for line in itertools.product(words, words, words)]
    splits = {"train": lines, "validation": lines[:9], "test": lines[:9]}
    for split, part in splits.items():
        (folder / "DIR" / f"{split}.en").write_text("\n".join(part) + "\n")
        (folder / "DIR" / f"{split}.de").write_text("\n".join(part).upper() + "\n")
    (folder / "DIR" / "tinyshakespeare.txt").write_text("\n".join(lines))
    return folder


def test_there_are_commands():
    users = set(launch.COMMANDS) - {"trials"}  # which engines start, and no user
    assert {words.split()[0] for words in COMMANDS} == users


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_readme_works(folder, monkeypatch, capsys, words):
    monkeypatch.chdir(folder)
    words = re.sub(
        r"experiments/(\w+)\.py(:tiny)?", rf"{ROOT}/experiments/\1.py:tiny", words
    )
    if "multi30k" in words and not words.startswith("submit"):
        words += " --config.tokenizer.vocab=300"
    if words.startswith("sweep"):
        words += " --search=random --trials=2"
    words = words.replace("--step=200", "--step=10")  # of :tiny
    if words.startswith("recipe"):
        words += " --dry-run"  # it takes minutes, and is run by its own test
    assert launch.main(shlex.split(words)) == 0, capsys.readouterr().err
