"""train/noise_scale.py on gradients whose mean and covariance are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import noise_scale


def draws(weights, number=10_000, size=20):
    """Estimates from gradients of a known mean and a known covariance."""
    mean = np.linspace(-0.5, 0.5, size)
    deviation = np.linspace(0.5, 2.0, size)
    weight = jnp.asarray(weights, jnp.float32)

    def one(key):
        noise = jax.random.normal(key, (len(weights), size)) * deviation
        g = mean + noise / jnp.sqrt(weight)[:, None]
        total = g * weight[:, None]
        spreads = jax.vmap(noise_scale.of_piece)(total, weight)
        spread = jax.tree.map(jnp.sum, spreads)
        whole = total.sum(0) / weight.sum()
        return noise_scale.estimates(spread, whole, weight.sum()), g, whole

    keys = jax.random.split(jax.random.key(0), number)
    found = jax.jit(jax.vmap(one))(keys)
    return found, (deviation**2).sum(), (mean**2).sum()


@pytest.mark.parametrize("weights", [[4.0] * 4, [1.0, 3.0, 8.0, 20.0]])
def test_the_estimates_have_no_bias(weights):
    with jax.numpy_rank_promotion("allow"):
        ((trace, square), *_), known_trace, known_square = draws(weights)
    np.testing.assert_allclose(trace.mean(), known_trace, rtol=0.02)
    np.testing.assert_allclose(square.mean(), known_square, rtol=0.02)


def test_pieces_of_equal_weight_give_the_papers_estimates():
    with jax.numpy_rank_promotion("allow"):
        ((trace, square), g, whole), *_ = draws([4.0] * 4, number=5)
    small = np.mean(np.sum(np.square(g), axis=2), axis=1)
    large = np.sum(np.square(whole), axis=1)
    np.testing.assert_allclose(trace, (small - large) / (1 / 4 - 1 / 16), rtol=1e-4)
    np.testing.assert_allclose(square, (16 * large - 4 * small) / 12, rtol=1e-4)


def test_padding_is_no_piece_and_a_lone_piece_or_a_skipped_step_counts_for_nothing():
    g = jnp.array([[2.0, 0.0], [0.0, 6.0], [0.0, 0.0]])
    weight = jnp.array([1.0, 3.0, 0.0])
    spread = jax.tree.map(jnp.sum, jax.vmap(noise_scale.of_piece)(g, weight))
    assert spread == (4.0 + 12.0, 2.0)
    take = functools.partial(
        noise_scale.measured, grads=g.sum(0) / 4, weight=weight.sum(), num_rows=3
    )
    noise, scores = take(noise_scale.init(), spread, ok=jnp.bool_(True), memory_steps=9)
    assert noise == (1, 6.0, 1.0, 4 / 3)  # 16 - 4 * 2.5, and 2.5 - 6 / 4
    assert scores["noise_scale/targets"].value == 6.0
    assert scores["noise_scale/rows"].value == pytest.approx(4.5)
    lone = spread._replace(pieces=jnp.float32(1))
    for other, ok in ((lone, True), (spread, False)):
        after, _ = take(noise, other, ok=jnp.bool_(ok), memory_steps=9)
        assert after == noise
