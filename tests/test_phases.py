"""train/phases.py: batch sizes and lengths that change, as a few programs."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from core.exits import Stop
from core.overrides import resolve
from data.batches import Batches, Phase
from data.packing import stream
from launch import load
from tests.runs import tiny
from tests.test_run import assert_same_run
from train import assemble as assembling
from train import run
from train.assemble import assemble, check, flops_of, inputs_of
from train.logs import read_metrics
from train.preemption import Preemption
from train.schema import SCHEMA

# Of rows of 16: two thirds of the steps in another shape, a third as ever.
PHASES = {"until": (7, 14), "batch_sizes": (4, 8), "lengths": (4, 8)}


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    bits = np.random.PCG64(0).random_raw(900)
    words = ["To be", "or not", "to be,", "that is", "the question:\n"]
    (folder / "text.txt").write_text(" ".join(words[n % 5] for n in bits.tolist()))
    return folder


def config_of(text, width=16, **phases):
    """A run on the text, in phases."""
    typed = {"model.width": str(width)}
    typed |= {"data.folder": str(text), "data.train": "text.txt", "batch_size": "16"}
    typed |= {f"phases.{key}": repr(value) for key, value in phases.items()}
    return resolve(load("experiments/shakespeare.py:tiny"), typed, SCHEMA)[0]


def rows_of(tokens, length):
    rows = stream.cut(np.asarray(tokens, np.uint16), length)
    return rows | {"tokens_R": (rows["segment_BL"] > 0).sum(1)}


@settings(max_examples=60, deadline=None)
@given(
    sizes=strategies.lists(strategies.integers(1, 9).map(lambda n: 2 * n), max_size=3),
    steps=strategies.lists(strategies.integers(1, 5), min_size=3, max_size=3),
    epochs=strategies.floats(0.01, 4.0),
)
def test_rows_are_read_as_ever_whatever_the_phases(sizes, steps, epochs):
    rows = rows_of(np.arange(1, 11 * 8), 8)
    until = np.cumsum(steps).tolist()
    phases = [Phase(*pair) for pair in zip(until, sizes, strict=False)]
    plain = Batches(rows, batch_size=1, seed=3)
    hosts = [
        Batches(rows, batch_size=6, seed=3, phases=phases, host=h, num_hosts=2)
        for h in (0, 1)
    ]
    read = tokens = 0
    for n in range(20):
        assert hosts[0].rows_before(n) == read
        assert hosts[1].tokens_before(n) == tokens
        batch = np.concatenate([x.batch(n)["target_BL"] for x in hosts])
        for row in batch:
            np.testing.assert_array_equal(row, plain.batch(read)["target_BL"][0])
            read, tokens = read + 1, tokens + (row > 0).sum()
    enough = hosts[0].steps_of(epochs=epochs)
    assert hosts[0].rows_before(enough) >= epochs * len(rows["tokens_R"])
    assert hosts[0].rows_before(enough - 1) < epochs * len(rows["tokens_R"])


def test_rows_cut_in_two_are_those_of_a_stream_of_half_the_length():
    tokens = np.arange(1, 150)
    whole, half = rows_of(tokens, 16), rows_of(tokens, 8)
    batches = Batches(whole, batch_size=1, seed=0, phases=[Phase(10, 1, cuts=2)])
    cut = [batches.batch(n) for n in range(10)]
    assert {batch["input_BL"].shape for batch in cut} == {(2, 8)}
    for name in ("input_BL", "target_BL"):
        found = {tuple(row) for batch in cut for row in batch[name].tolist()}
        assert found == {*map(tuple, half[name].tolist()), (0,) * 8}
    for batch in cut:
        np.testing.assert_array_equal(batch["segment_BL"] > 0, batch["target_BL"] > 0)
    assert batches.batch(10)["input_BL"].shape == (1, 16)


def test_phases_like_the_rest_change_nothing(text, tmp_path):
    plain = config_of(text)
    run.train(plain, str(tmp_path / "plain"))
    phased = config_of(text, until=(5,), batch_sizes=(16,), lengths=(16,))
    run.train(phased, str(tmp_path / "phased"))
    assert_same_run(tmp_path / "plain", tmp_path / "phased", plain)


def test_a_run_is_the_same_to_the_bit_when_interrupted_in_any_phase(
    text, tmp_path, monkeypatch
):
    config = config_of(text, **PHASES)
    run.train(config, str(tmp_path / "straight"))
    for stop in (6, 7, 15):
        monkeypatch.setattr(Preemption, "asked", lambda _, step, at=stop: step == at)
        with pytest.raises(Stop, match=f"Saved step {stop}"):
            run.train(config, str(tmp_path / "cut"))
    monkeypatch.undo()
    run.train(config, str(tmp_path / "cut"))
    assert_same_run(tmp_path / "straight", tmp_path / "cut", config)
    lines = read_metrics(tmp_path / "straight")
    rows = assemble(config).batches.rows_before(20)
    assert rows == 7 * 4 + 7 * 8 + 6 * 16
    assert lines[-1]["tokens"] == pytest.approx(16 * rows, rel=0.05)  # of padding
    assert lines[-1]["val_loss"] < lines[0]["loss"]


def test_each_shape_is_compiled_once_and_before_the_first_step(text):
    config = config_of(text, width=8, until=(3, 6, 9), batch_sizes=(8, 16, 8))
    parts = assemble(config)
    inputs = inputs_of(parts)
    state = parts.program.init(inputs.values, inputs.key)
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: seen.append(event.endswith("backend_compile_duration"))
    )
    step = run._step(parts, inputs, state)
    assert sum(seen) == 2
    del seen[:]
    for batch in assembling.placed_batches(parts, 0):
        state, _ = step(state, batch)
    jax.monitoring.clear_event_listeners()
    assert not any(seen)
    assert int(state.step) == 20


def test_shorter_rows_have_less_attention_to_count(text):
    plain, mixed, short = (
        flops_of(assemble(config_of(text, **phases)), 1_000)
        for phases in (
            {},
            {"until": (10,), "lengths": (4,)},
            {"until": (19,), "lengths": (4,)},
        )
    )
    assert plain > mixed > short


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ({"until": (7, 7), "batch_sizes": (4, 4)}, "until=.7, 7. must rise from 1 on"),
        ({"until": (7,), "batch_sizes": (4, 8)}, r"batch_sizes=.* one for each of"),
        ({"until": (7,)}, r"needs phases.batch_sizes or phases.lengths"),
        ({"until": (20,), "batch_sizes": (4,)}, "be over before num_steps=20"),
        ({"until": (7,), "batch_sizes": (6,)}, "multiples of 4, as batch_size"),
        ({"until": (7,), "lengths": (5,)}, "lengths=5 must divide packing.length=16"),
        ({"until": (7,), "lengths": (32,)}, "lengths=32 must divide packing.length=16"),
        ({"until": (7,), "lengths": (0,)}, r"phases.lengths=.* must lie in \[1, inf\)"),
    ],
)
def test_phases_that_do_not_fit_are_refused_in_one_line(text, phases, said):
    with pytest.raises(ValueError, match=said) as caught:
        check(config_of(text, **phases))
    assert "\n" not in str(caught.value)


def test_pairs_of_texts_have_no_rows_to_cut():
    with pytest.raises(ValueError, match=r"needs packing.name='stream'.* not 'pairs'"):
        check(tiny(phases__until=(7,), phases__lengths=(4,)))
    check(tiny(phases__until=(7,), phases__batch_sizes=(4,)))
