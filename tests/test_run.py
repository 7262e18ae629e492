"""train/run.py: whole runs of the tiny language model."""

import json

import jax
import numpy as np
import pytest

from core.exits import NUMERICS, PREEMPTED, Stop
from tests.runs import PLAIN, reading
from train import run
from train.assemble import assemble, inputs_of
from train.checkpoints import Checkpoints
from train.logs import read_json, read_metrics
from train.preemption import Preemption

TIMES = ("seconds", "tokens_per_second")


def lines_of(folder):
    """`metrics.jsonl` without what a clock says."""
    lines = read_metrics(folder)
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def state_of(folder, config):
    """The last checkpoint's state, as a list of arrays."""
    parts = assemble(config)
    inputs = inputs_of(parts)
    shape = parts.program.shape(inputs.values, inputs.key)
    with Checkpoints(folder / "checkpoints", every_steps=1, read_only=True) as kept:
        return [np.asarray(x) for x in jax.tree.leaves(kept.restore(shape)[1])]


def assert_same_run(one, other, config):
    assert lines_of(one) == lines_of(other)
    pairs = zip(state_of(one, config), state_of(other, config), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run from start to end."""
    folder = tmp_path_factory.mktemp("straight")
    run.train(reading(model__dropout=0.1), str(folder))
    return folder


def test_a_run_leaves_its_record(straight):
    names = {path.name for path in straight.iterdir()}
    record = ("config.json", "provenance.json", "metrics.jsonl", "checkpoints")
    assert names >= {*record, "tokenizer.model", "curves.png", "summary.json"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    summary = json.loads((straight / "summary.json").read_text())
    stated = "steps tokens seconds compile_seconds tokens_per_second mfu loss val_loss"
    assert summary.keys() >= set(stated.split())
    assert summary["mfu"] is None
    assert summary["steps"] == 20
    lines = read_metrics(straight)
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert all(line["loss"] > 0 for line in lines)
    assert ["val_loss" in line for line in lines] == [False, True, False, True]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert summary["tokens"] == lines[-1]["tokens"]


def test_an_interrupted_run_is_the_same_run_to_the_bit(straight, tmp_path, monkeypatch):
    config = reading(model__dropout=0.1)
    for number in (7, 13):
        monkeypatch.setattr(Preemption, "asked", lambda _, step, n=number: step == n)
        with pytest.raises(Stop, match=f"Saved step {number}") as stopped:
            run.train(config, str(tmp_path))
        assert stopped.value.code == PREEMPTED
    monkeypatch.undo()
    run.train(config, str(tmp_path))
    assert_same_run(straight, tmp_path, config)


def test_a_finished_run_is_left_alone_and_goes_on_with_a_larger_length(tmp_path):
    flat = dict(optim__schedule__name="constant")
    run.train(reading(**flat, num_steps=6), str(tmp_path))
    before = lines_of(tmp_path)
    summary = run.train(reading(**flat, num_steps=6), str(tmp_path))
    assert lines_of(tmp_path) == before
    assert summary["steps"] == 6
    summary = run.train(reading(**flat, num_steps=9), str(tmp_path))
    assert summary["steps"] == 9
    assert lines_of(tmp_path)[: len(before)] == before


def test_another_run_in_the_folder_is_refused_and_nothing_is_touched(straight):
    def contents():
        return {p: p.read_bytes() for p in straight.rglob("*") if p.is_file()}

    before = contents()
    with pytest.raises(ValueError, match="seed=1 differs from the run's seed=0"):
        run.train(reading(model__dropout=0.1, seed=1), str(straight))
    assert contents() == before


def test_an_allowed_drift_goes_on_and_is_recorded(tmp_path):
    run.train(reading(num_steps=10, **PLAIN), str(tmp_path))
    peak = "optim.schedule.peak"
    config = reading(num_steps=12, optim__schedule__peak=1e-3, **PLAIN)
    run.train(config, str(tmp_path), allow_drift=[peak])
    launches = read_json(tmp_path / "provenance.json")["launches"]
    assert [len(launch["drifts"]) for launch in launches] == [0, 1]
    assert peak in launches[1]["drifts"][0]


def test_parameters_come_from_another_run(straight, tmp_path):
    still = dict(optim__schedule__name="constant", optim__schedule__peak=1e-12)
    config = reading(init_from=str(straight), num_steps=2, **still)
    summary = run.train(config, str(tmp_path))
    theirs = read_json(straight / "summary.json")["val_loss"]
    assert summary["val_loss"] == pytest.approx(theirs, rel=1e-5)
    model = (straight / "tokenizer.model").read_bytes()
    assert (tmp_path / "tokenizer.model").read_bytes() == model


def test_numbers_that_are_no_use_end_the_run(tmp_path):
    config = reading(optim__schedule__peak=1e30, optim__clip_norm="inf", num_steps=40)
    with pytest.raises(Stop, match="steps in a row") as stopped:
        run.train(
            config | {"guard": config["guard"] | {"max_streak": 3}}, str(tmp_path)
        )
    assert stopped.value.code == NUMERICS


def test_a_run_killed_before_its_summary_gets_one(tmp_path):
    config = reading(num_steps=4, optim__schedule__name="constant")
    run.train(config, str(tmp_path))
    (tmp_path / "summary.json").unlink()
    assert run.train(config, str(tmp_path))["steps"] == 4
    assert read_json(tmp_path / "summary.json")["val_loss"] > 0


def test_a_trace_is_written_on_request(tmp_path):
    flat = dict(optim__schedule__name="constant")
    run.train(reading(num_steps=12, **flat), str(tmp_path), profile=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_tokenizer_left_by_a_run_that_never_began_is_not_used(straight, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"of something else")
    run.train(reading(num_steps=2, optim__schedule__name="constant"), str(tmp_path))
    model = (straight / "tokenizer.model").read_bytes()
    assert (tmp_path / "tokenizer.model").read_bytes() == model


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("checkpoint__best", "val_bleu", "checkpoint.best='val_bleu' is not known"),
        ("batch_size", "6", "batch_size=6 must be a multiple of 4"),
        ("optim__schedule__warmup_steps", "30", "do not fit in num_steps=20"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_folder(tmp_path, key, value, line):
    with pytest.raises(ValueError, match=line):
        run.train(reading(**{key: value}), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("length", "steps"),
    [({"num_tokens": 2_000}, 16), ({"num_epochs": 0.05}, None)],
)
def test_a_length_in_tokens_or_epochs_is_reached(length, steps):
    parts = assemble(reading(num_steps=0, optim__schedule__name="constant", **length))
    reached = parts.batches.tokens_before(parts.num_steps)
    wanted = length.get("num_tokens", 0.05 * parts.batches.tokens_per_epoch)
    slots = parts.prepared.rows["train"]["target_BL"][:8].size
    assert wanted - slots < reached < wanted + slots
    assert steps is None or abs(parts.num_steps - steps) <= 2
