"""train/lanczos.py against eigh, and train/measure.py's sharpness against Hessians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from models.decoder import Decoder
from tasks.language import Language
from tests.measuring import Net, rows
from train import measure as measures
from train.lanczos import top_eigenvalue


def symmetric(values, seed=0):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))[0]
    return jnp.asarray(turn * values @ turn.T, jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def top(matrix, num_steps):
    start = jax.random.normal(jax.random.key(0), matrix.shape[:1])
    return top_eigenvalue(lambda v: matrix @ v, start, num_steps)


def test_lanczos_finds_what_eigh_finds():
    matrix = symmetric(np.random.default_rng(1).normal(size=50))
    known = np.linalg.eigvalsh(np.asarray(matrix, np.float64))
    np.testing.assert_allclose(top(matrix, 50).value, known[-1], rtol=1e-5)
    for num_steps in (4, 12):
        found = top(matrix, num_steps)
        assert found.value <= known[-1] * (1 + 1e-6)
        assert np.abs(known - found.value).min() <= found.error * (1 + 1e-5)
    assert top(matrix, 4).value < top(matrix, 12).value


def test_the_error_is_the_residual_in_the_space_of_the_products():
    matrix = symmetric(np.random.default_rng(1).normal(size=50))
    wide = np.asarray(matrix, np.float64)
    powers = [np.asarray(jax.random.normal(jax.random.key(0), (50,)), np.float64)]
    for _ in range(3):
        powers.append(wide @ powers[-1])
    basis = np.linalg.qr(np.stack(powers, axis=1))[0]
    values, vectors = np.linalg.eigh(basis.T @ wide @ basis)
    vector = basis @ vectors[:, -1]
    residual = np.linalg.norm(wide @ vector - values[-1] * vector)
    found = top(matrix, 4)
    np.testing.assert_allclose(found.value, values[-1], rtol=1e-5)
    np.testing.assert_allclose(found.error, residual, rtol=1e-4)


@pytest.mark.parametrize("values", [[-3.0, -2.0, -1.0], [2.0] * 6, [0.0, 0.0, 5.0]])
def test_steps_that_lead_nowhere_new_change_nothing(values):
    found = top(symmetric(np.array(values)), 9)
    np.testing.assert_allclose(found.value, max(values), rtol=1e-5)
    np.testing.assert_allclose(found.error, 0.0, atol=1e-5)


def test_gradient_descent_is_unstable_above_two_over_the_sharpness():
    matrix = symmetric(np.linspace(0.1, 3.0, 20))
    start = jnp.ones(20)

    @jax.jit
    def size_after(rate):
        def step(_, w):
            return w - rate * matrix @ w

        return jnp.linalg.norm(jax.lax.fori_loop(0, 2_000, step, start))

    edge = 2 / top(matrix, 20).value
    assert size_after(0.99 * edge) < 1e-3 * size_after(0.0)
    assert size_after(1.01 * edge) > 1e3 * size_after(0.0)


def test_sharpness_is_the_top_eigenvalue_of_the_hessian_of_the_pieces_together():
    batch, params = rows(), Net().init(jax.random.key(1))
    params["mlp"]["in"] = params["mlp"]["in"].astype(jnp.bfloat16)
    wide = jax.tree.map(lambda w: w.astype(jnp.float32), params)
    flat, back = ravel_pytree(wide)
    key = jax.random.key(9)

    def objective(flat):
        total, weight = 0.0, 0.0
        for piece, own in enumerate(jax.random.split(key, 2)):
            cut = {name: x[piece::2] for name, x in batch.items()}
            mean = Net().score(back(flat), cut, own, train=True)["objective"]
            total, weight = total + mean.total, weight + mean.weight
        return total / weight

    def of(params):
        cut = dict(pieces=2, lanczos_steps=len(flat))
        return measures.sharpness(Net(), params, batch, key, **cut)

    hessian = jax.jit(jax.hessian(objective))(flat)
    known = np.linalg.eigvalsh(np.asarray(hessian, np.float64))[-1]
    found = jax.jit(of)
    np.testing.assert_allclose(found(wide)["sharpness"].value, known, rtol=1e-5)
    assert found(wide)["sharpness_error"].value < 1e-3 * known
    rough = found(params)["sharpness"].value  # some weights are bfloat16
    np.testing.assert_allclose(rough, known, rtol=0.05)


@pytest.mark.slow
def test_sharpness_is_the_top_eigenvalue_of_the_hessian_of_a_model():
    sizes = dict(width=4, num_heads=1, mlp_width=6, position="none")
    task = Language(Decoder(vocab=7, num_layers=1, **sizes), smoothing=0.1)
    params = task.init(jax.random.key(1))
    token_BL = jax.random.randint(jax.random.key(2), (4, 6), 0, 7)
    segment_BL = jnp.ones_like(token_BL).at[0, 2:].set(0)
    batch = dict(input_BL=token_BL, target_BL=token_BL[:, ::-1], segment_BL=segment_BL)
    flat, back = ravel_pytree(params)

    def objective(flat):
        score = task.score(back(flat), batch, jax.random.key(0), train=True)
        return score["objective"].value

    hessian = jax.jit(jax.hessian(objective))(flat)
    known = np.linalg.eigvalsh(np.asarray(hessian, np.float64))

    def of(params):
        cut = dict(pieces=2, lanczos_steps=40)
        key = jax.random.key(0)
        return measures.sharpness(task, params, batch, key, **cut)

    found = jax.jit(of)(params)
    np.testing.assert_allclose(found["sharpness"].value, known[-1], rtol=1e-5)
    assert found["sharpness_error"].value < 1e-3 * known[-1]
