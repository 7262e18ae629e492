"""optim/plateau.py: the rate falls when PyTorch's does, and all are told."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.mean import Mean
from tests.optimizing import load
from train.guard import Guard
from train.step import make_step, start

STILL = dict(
    rule=dict(name="gradient_descent"),
    schedule=dict(name="constant", peak=0.5, warmup_steps=0),
    num_steps=60,
)


def chain(plateau):
    return optim.make(**STILL, plateau=plateau)[0]


PLATEAUS = {
    "plateau": dict(factor=0.3, patience=2, cooldown=3, threshold=0.01, min_share=0.04),
    "plateau_impatient": dict(factor=0.8, patience=0, cooldown=0, threshold=0.0),
}


def rates_of(tx, values):
    """The rate of each step: the update of a gradient of ones."""
    ones = {"in": jnp.ones(1)}

    def step(state, now):
        number, value = now
        updates, state = tx.update(ones, state, ones, step=number, value=value)
        return state, -updates["in"][0]

    steps = jnp.arange(len(values)), jnp.asarray(values)
    return jax.jit(lambda: jax.lax.scan(step, tx.init(ones), steps)[1])()


@pytest.mark.parametrize("case", PLATEAUS)
def test_on_a_plateau_the_rate_is_that_of_pytorch(case):
    plateau = dict(PLATEAUS[case], every_steps=1)
    tx = chain(plateau)
    found = rates_of(tx, load("schedules")["plateau/values"])
    np.testing.assert_allclose(found, load("schedules")[case], rtol=0, atol=1e-6)
    assert len(np.unique(load("schedules")[case])) >= 4


def test_a_slow_fall_is_measured_from_the_last_improvement():
    values = 0.995 ** np.arange(30)  # in three steps more than the threshold
    plateau = dict(factor=0.5, patience=2, threshold=0.01, every_steps=1)
    found = rates_of(chain(plateau), values)
    np.testing.assert_array_equal(found, 0.5)


def test_a_plateau_is_of_means_over_so_many_steps():
    means = load("schedules")["plateau/values"]
    noise = np.array([0.5, -1.5, 1.25, -0.25], np.float32)
    values = (means[:, None] + noise).reshape(-1)
    plateau = dict(PLATEAUS["plateau"], every_steps=4)
    found = rates_of(chain(plateau), values)
    wanted = np.repeat(load("schedules")["plateau"], 4)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_a_plateau_is_that_of_optax_one_step_later_and_one_more_patient():
    values = load("schedules")["plateau/values"]
    options = dict(factor=0.3, cooldown=3)
    theirs = optax.contrib.reduce_on_plateau(patience=3, rtol=0.01, **options)
    theirs = optax.chain(theirs, optax.scale(-0.5))
    plateau = dict(options, patience=2, threshold=0.01, every_steps=1)
    tx = chain(plateau)
    one_later = rates_of(theirs, values)[:-1]
    np.testing.assert_allclose(rates_of(tx, values)[1:], one_later, rtol=1e-6)


def test_a_plateau_takes_traced_numbers_and_reaches_what_a_rule_is_told():
    def update(updates, state, params=None, **extra):
        del updates, params
        return {"in": extra["rate"][None]}, state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)

    @jax.jit
    def run(numbers):
        plateau = dict(numbers, patience=0, every_steps=1)
        low = optim.PLATEAU.build(tx=tx, **plateau)
        state = low.init({"in": jnp.ones(1)})
        told = []
        for value in (1.0, 1.0, 1.0):
            updates, state = low.update({}, state, rate=0.5, value=value)
            told.append(updates["in"][0])
        return jnp.stack(told), optim.rate_at(0.5, state)

    told, now = run(dict(factor=0.1, threshold=1e-4, min_share=0.0))
    np.testing.assert_allclose(told, [0.5, 0.5, 0.05], rtol=1e-6)
    np.testing.assert_allclose(now, 0.005, rtol=1e-6)
    assert optim.rate_at(0.5, ()) == 0.5


class Stuck:
    """A task whose objective stays where it is, but for the batches that break it."""

    def init(self, key):
        del key
        return {"in": jnp.ones((2, 2))}

    def score(self, params, batch, key, *, train):
        del key, train
        still = jnp.sum(params["in"]) * 0.0 + 1.0
        loss = Mean.single(still * jnp.mean(batch["x_B"]))
        return {"objective": loss, "loss": loss}


def test_the_step_tells_the_rate_it_took_and_a_skipped_one_is_not_seen():
    plateau = dict(factor=0.5, patience=0, every_steps=1)
    tx, rate = optim.make(**STILL, plateau=plateau)
    task, key = Stuck(), jax.random.key(0)
    state = start(task, tx, key)
    step = jax.jit(make_step(task, tx, rate=rate, judge=Guard()))
    rates = []
    for bad in (1.0, 1.0, jnp.nan, 1.0, 1.0):
        state, scores = step(state, {"x_B": jnp.full(4, bad)}, key)
        rates.append(float(scores["rate"].value))
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125]
    assert state.guard.num_skipped == 1
