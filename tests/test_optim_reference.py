"""optim/ against the outside: the formulas of Kingma & Ba in float64, and PyTorch.

The golden file is renewed by tests/golden/make_optim.py, which says what is in it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from tests.optimizing import (
    NUM_STEPS,
    assert_path,
    case_of,
    gradient,
    load,
    problem,
)

RATE = dict(name="linear", peak=0.02, warmup_steps=0)
ADAM = dict(name="adam", b1=0.9, b2=0.999, eps=1e-8)
CASES = {
    "gradient_descent": dict(rule=dict(name="gradient_descent")),
    "momentum": dict(rule=dict(name="sgd", momentum=0.9)),
    "nesterov": dict(rule=dict(name="sgd", momentum=0.9, nesterov=True)),
    "momentum_l2": dict(rule=dict(name="sgd", momentum=0.9), l2=0.1),
    "adam": dict(rule=ADAM),
    "adam_other_betas": dict(rule=dict(name="adam", b1=0.8, b2=0.95, eps=1e-3)),
    "adam_l2": dict(rule=ADAM, l2=0.1),
    "adamw": dict(rule=dict(ADAM, name="adamw"), decay=0.3),
    "adam_clipped": dict(rule=ADAM, clip_norm=1.0),
}


def follow(options):
    """Parameters, gradients, updates and states of every step, stacked."""
    tx, _ = optim.make(schedule=RATE, num_steps=NUM_STEPS, **options)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise = now
            grads = gradient(jnp, params, goal, curve, noise)
            updates, state = tx.update(grads, state, params, step=number)
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), (params, grads, updates, state)

        steps = jnp.arange(NUM_STEPS), noise
        return jax.lax.scan(step, (start, tx.init(start)), steps)[1]

    return jax.device_get(run(*problem()))


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_that_of_pytorch(case):
    params, *_ = follow(CASES[case])
    assert_path(params, case_of("optim", case))


def test_the_cases_tell_one_another_apart():
    ends = [load("optim")[f"{case}/key"][-1] for case in CASES]
    for i, end in enumerate(ends):
        assert all(np.abs(end - other).max() > 1e-3 for other in ends[:i])


def test_adam_is_algorithm_1_of_kingma_and_ba():
    b1, b2, eps = 0.9, 0.999, 1e-8
    params, grads, updates, state = follow(dict(rule=ADAM))
    mu, nu = state["rule"].mu, state["rule"].nu
    assert list(state["rule"].count) == list(range(1, NUM_STEPS + 1))
    for name, start in problem()[0].items():
        theta, m, v = start.astype(np.float64), 0.0, 0.0
        for t in range(1, NUM_STEPS + 1):
            g = grads[name][t - 1].astype(np.float64)
            alpha = 0.02 * (1 - (t - 1) / NUM_STEPS)
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            m_hat = m / (1 - b1**t)
            v_hat = v / (1 - b2**t)
            move = -alpha * m_hat / (np.sqrt(v_hat) + eps)
            theta = theta + move
            np.testing.assert_allclose(mu[name][t - 1], m, rtol=0, atol=1e-6)
            np.testing.assert_allclose(nu[name][t - 1], v, rtol=0, atol=1e-6)
            # 1 - 0.999 in float32 is off by 1e-5 of itself, its root by half of that.
            np.testing.assert_allclose(updates[name][t - 1], move, rtol=1e-5, atol=1e-8)
            np.testing.assert_allclose(params[name][t - 1], theta, rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_first_step_of_adam_is_the_rate_whatever_the_gradient(size):
    grads = {"in": jnp.array([3.0, -0.5, 2.0]) * size, "bias": jnp.array([-size])}
    constant = dict(name="constant", peak=0.1, warmup_steps=0)
    tx, _ = optim.make(rule=ADAM, schedule=constant, num_steps=9)
    updates, _ = tx.update(grads, tx.init(grads), grads, step=0)
    for name, g in grads.items():
        wanted = -0.1 * np.sign(g) * np.abs(g) / (np.abs(g) + 1e-8)
        np.testing.assert_allclose(updates[name], wanted, rtol=1e-5)


@pytest.mark.parametrize("l2", [1e-3, 1.0, 30.0])
def test_the_first_step_of_adam_under_l2_alone_is_the_rate_whatever_l2_is(l2):
    params = {"in": jnp.array([3.0, -0.5, 2.0]), "bias": jnp.array([-4.0])}
    zero = jax.tree.map(jnp.zeros_like, params)
    constant = dict(name="constant", peak=0.1, warmup_steps=0)
    tx, _ = optim.make(rule=ADAM, l2=l2, schedule=constant, num_steps=9)
    updates, _ = tx.update(zero, tx.init(params), params, step=0)
    np.testing.assert_allclose(updates["in"], -0.1 * np.sign(params["in"]), rtol=3e-5)
    assert updates["bias"] == 0.0
