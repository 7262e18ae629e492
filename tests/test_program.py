"""train/program.py: numbers are inputs, and a program is compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import PLAIN, reading
from train import mesh as meshes
from train.assemble import assemble, inputs_of, validate
from train.step import eval_params

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def compiles():
    """A list that grows by the name of every compiled program."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: seen.append(event) if event == COMPILED else None
    )
    yield seen
    jax.monitoring.clear_event_listeners()


def losses(config, num_steps=3):
    """The loss of each of the first steps, then that of validation."""
    parts = assemble(config)
    inputs = inputs_of(parts)
    state = parts.program.init(inputs.values, inputs.key)
    step = parts.program.compile_step(state, *inputs)
    found = []
    for number in range(num_steps):
        batch = meshes.place_rows(parts.mesh, parts.batches.batch(number))
        state, scores = step(state, batch, inputs.key, inputs.values)
        found.append(float(scores["loss"].value))
    found.append(float(validate(parts, eval_params(state), inputs)["loss"].value))
    return np.array(found)


ON = {
    "model__dropout": 0.1,
    "model__attention_dropout": 0.1,
    "model__mlp_dropout": 0.1,
    "task__smoothing": 0.1,
    "optim__l1": 1e-4,
    "optim__l2": 1e-4,
    "optim__decay": 0.1,
    "optim__clip_norm": 1.0,
}
OTHER = {
    "model__dropout": 0.2,
    "model__attention_dropout": 0.3,
    "model__mlp_dropout": 0.3,
    "task__smoothing": 0.2,
    "optim__l1": 1e-2,
    "optim__l2": 1e-2,
    "optim__decay": 30.0,
    "optim__clip_norm": 0.01,
    "optim__rule__b1": 0.5,
    "optim__rule__b2": 0.9,
    "optim__rule__eps": 1e-2,
    "optim__schedule__peak": 3e-2,
    "optim__schedule__warmup_steps": 1,
    "optim__schedule__decay_steps": 18,
    "num_steps": 21,
    "seed": 1,
}


def test_no_change_of_a_number_compiles_anything(compiles):
    before = losses(reading(**ON))
    compiles.clear()
    assert np.array_equal(losses(reading(**ON)), before)
    for key, value in OTHER.items():
        after = losses(reading(**ON | {key: value}))
        assert compiles == [], f"{key}={value} compiled"
        # decay_steps and num_steps act later than three steps from the start
        late = ("optim__schedule__decay_steps", "num_steps")
        assert key in late or not np.array_equal(after, before), key
    losses(reading(**ON | {"optim__decay": 0.0}))
    assert compiles != [], "what is off leaves no trace, so it is another program"


def test_the_losses_do_not_depend_on_the_devices(monkeypatch):
    curves = []
    for num_devices in (1, 4):
        devices = jax.devices()[:num_devices]
        monkeypatch.setattr(meshes, "devices", lambda devices=devices: devices)
        config = reading(model__dropout=0.1, task__smoothing=0.1, pieces=2)
        curves.append(losses(config, num_steps=20))
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    assert curves[0][-1] < curves[0][0] - 0.5  # validation, after a little training


@pytest.mark.slow
def test_bfloat16_computes_and_float32_keeps(monkeypatch):
    monkeypatch.setattr(meshes, "devices", lambda: jax.devices()[:1])
    whole, half = (
        losses(reading(model__dtype=d, **PLAIN)) for d in ("float32", "bfloat16")
    )
    assert not np.array_equal(whole, half)
    np.testing.assert_allclose(half, whole, rtol=0.02)
    config = reading(model__dtype="bfloat16")
    parts = assemble(config)
    state = parts.program.shape(parts.values, jax.random.key(0))
    floats = [
        x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    assert {str(x.dtype) for x in floats} == {"float32"}


def test_dropout_and_smoothing_change_the_objective_and_not_what_is_compared():
    plain, noisy = reading(**PLAIN), reading(**PLAIN, task__smoothing=0.5)
    first = [losses(config, num_steps=1)[0] for config in (plain, noisy)]
    assert first[0] == pytest.approx(first[1], rel=1e-6)
