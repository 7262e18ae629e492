"""train/step.py"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core.mean import Mean
from train.guard import Guard
from train.step import make_step, start


@dataclasses.dataclass(frozen=True)
class Line:
    """Fits y = w x: a task small enough to check by hand."""

    def init(self, key):
        del key
        return {"w": jnp.zeros(())}

    def score(self, params, batch, key, *, train):
        del key, train
        error_B = params["w"] * batch["x_B"] - batch["y_B"]
        loss = Mean.of(error_B**2, batch["weight_B"])
        return {"objective": loss, "loss": loss}


@dataclasses.dataclass(frozen=True)
class Noise(Line):
    """The objective is what the key gives."""

    def score(self, params, batch, key, *, train):
        del batch, train
        noise = Mean.single(params["w"] + jax.random.normal(key))
        return {"objective": noise, "loss": noise}


def line_batch():
    x_B = jnp.arange(8.0)
    weight_B = jnp.array([1, 1, 1, 0, 1, 0, 0, 0.0])  # uneven over any split
    return {"x_B": x_B, "y_B": 3 * x_B, "weight_B": weight_B}


def chain(rule):
    return optax.with_extra_args_support(rule)


def one_step(task, tx, batch, pieces=1, number=0):
    state = start(task, tx, jax.random.key(0)).replace(step=jnp.int32(number))
    step = make_step(task, tx, rate=lambda step: 0.1, judge=Guard(), pieces=pieces)
    return jax.jit(step)(state, batch, jax.random.key(7))


@pytest.mark.parametrize("pieces", [1, 2, 4, 8])
def test_the_step_does_not_depend_on_the_pieces(pieces):
    state, scores = one_step(Line(), chain(optax.sgd(0.01)), line_batch(), pieces)
    mean_xx = (0 + 1 + 4 + 16) / 4
    np.testing.assert_allclose(state.params["w"], 0.01 * 2 * 3 * mean_xx, rtol=1e-6)
    np.testing.assert_allclose(scores["loss"].value, 9 * mean_xx, rtol=1e-6)


def test_randomness_comes_from_the_step_and_differs_between_pieces():
    tx = chain(optax.sgd(0.0))
    batch = line_batch()

    def noise(**options):
        return float(one_step(Noise(), tx, batch, **options)[1]["loss"].value)

    assert noise(number=3) == noise(number=3) != noise(number=4)
    halves = 2 * noise(number=3, pieces=2)
    assert halves != pytest.approx(2 * noise(number=3))


def test_a_transformation_gets_the_step_a_key_the_value_and_a_value_fn():
    def update(updates, state, params, *, step, key, value, value_fn, **_):
        del updates
        nothing = value - value_fn(params) + value_fn({"w": 3.0})
        return {"w": step + 0.0 * jax.random.normal(key) + nothing}, state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    state, _ = one_step(Line(), tx, line_batch(), number=5)
    assert state.params["w"] == 5.0  # the objective at w = 3 is 0


def test_a_batch_of_padding_is_skipped():
    batch = line_batch() | {"weight_B": jnp.zeros(8)}
    state, scores = one_step(Line(), chain(optax.adam(0.1)), batch)
    assert state.params["w"] == 0.0
    assert scores["skipped"].value == 1
    assert state.step == 1
