"""The catalogue of techniques: complete, true, and the page that is made of it."""

import importlib
import pathlib

import pytest

import launch
from core.registry import Entry
from train.catalogue import as_markdown, techniques
from train.schema import SCHEMA

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def found():
    return techniques()


def test_everything_that_the_block_of_the_optimizer_can_name_is_in_it(found):
    known = {(line.where, line.name) for line in found}
    for where, block in SCHEMA.items():
        if not where.startswith("optim") or where.endswith("_schedule"):
            continue
        if isinstance(block.table, Entry):
            continue
        for name in block.table:
            assert name == "none" or (where, name) in known, (where, name)


def test_every_switch_of_the_links_is_in_it(found):
    """A number that is off by default is a technique."""
    known = {line.name for line in found}
    for where in ("optim", "optim.gradient", "optim.constrain"):
        ranges = SCHEMA[where].table.ranges
        for key, within in ranges.items():
            assert within.neutral is None or key in known, key


def test_a_proof_is_a_test_that_names_what_it_proves(found):
    for line in found:
        text = (ROOT / line.proof).read_text()
        assert line.name in text, line


def test_a_provider_is_a_file_of_ours_or_a_symbol_that_its_builder_uses(found):
    for line in found:
        if line.provider.endswith(".py"):
            assert (ROOT / line.provider).is_file(), line
            continue
        module, _, name = line.provider.rpartition(".")
        assert hasattr(importlib.import_module(module), name), line
        sources = [file.read_text() for file in (ROOT / "optim").rglob("*.py")]
        assert any(f"{name}(" in source for source in sources), line


def test_the_state_of_known_rules_is_what_their_papers_say(found):
    state = {line.name: line.state_bytes for line in found if "rule" in line.where}
    expected = dict(gradient_descent=0, sgd=4, adam=8, amsgrad=12, lion=4, ademamix=12)
    for name, num_bytes in expected.items():
        assert state[name] == pytest.approx(num_bytes, abs=1e-3), name
    assert state["adafactor"] < 0.1  # two vectors a matrix
    average = {line.name: line.state_bytes for line in found if "aver" in line.where}
    assert average["ema"] == pytest.approx(4, abs=1e-3)


def test_the_page_is_made_of_the_catalogue(found):
    page = (ROOT / "docs" / "techniques.md").read_text()
    renew = "python launch.py techniques --markdown > docs/techniques.md"
    assert page == as_markdown(found), renew


def test_the_command_prints_a_family_and_refuses_an_unknown_one(capsys):
    assert launch.main(["techniques", "--family=optim"]) == 0
    said = capsys.readouterr().out
    assert "optim.rule.lion: Chen et al. 2023" in said
    assert "b1=0.9 in [0, 1)" in said
    assert launch.main(["techniques", "--family=optin"]) == 2
    assert "Did you mean 'optim'?" in capsys.readouterr().err
