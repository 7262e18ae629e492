"""optim/factorize.py: the factors are numpy's, and many of them do not hang.

And optim/rules/halves.py: what is left out of a symmetric matrix comes back.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import threadpoolctl

from optim.factorize import MOST_SIDE_BY_SIDE, eigh, one_by_one, orthonormal, svd
from optim.rules import halves

MANY = """
import jax, jax.numpy as jnp
from optim import factorize
x = jax.random.normal(jax.random.key(0), (16, 256, 256))
xs = [x + number for number in range(12)]
run = jax.jit(lambda *xs: [jax.vmap(factorize.orthonormal)(x) for x in xs])
for _ in range(3):
    jax.block_until_ready(run(*xs))
"""


@pytest.mark.parametrize("stacked", [(), (3,), (2, 3)])
def test_factors_give_the_matrix_back(stacked):
    x = np.random.default_rng(0).normal(size=(*stacked, 6, 4)).astype(np.float32)

    def mapped(function):
        for _ in stacked:
            function = jax.vmap(function)
        return jax.jit(function)

    square = np.einsum("...xy,...xz->...yz", x, x)
    value, vector = mapped(eigh)(square)
    np.testing.assert_allclose(value, np.linalg.eigvalsh(square), atol=1e-5)
    back = jnp.einsum("...xe,...e,...ye->...xy", vector, value, vector)
    np.testing.assert_allclose(back, square, atol=1e-5)
    np.testing.assert_allclose(
        jnp.abs(mapped(orthonormal)(x)), np.abs(np.linalg.qr(x)[0]), atol=1e-5
    )
    left, size, right = mapped(svd)(x)
    np.testing.assert_allclose(size, np.linalg.svd(x)[1], atol=1e-5)
    np.testing.assert_allclose((left * size[..., None, :]) @ right, x, atol=1e-5)


@pytest.mark.parametrize("stacked", [(3,), (MOST_SIDE_BY_SIDE + 1,), (17, 2)])
def test_one_by_one_is_the_map_without_a_batch(stacked):
    def function(x):
        return x @ x, x.sum()

    x = np.random.default_rng(0).normal(size=(*stacked, 4, 4)).astype(np.float32)
    mapped, plain = one_by_one(function), function
    for _ in stacked:
        mapped, plain = jax.vmap(mapped), jax.vmap(plain)
    for found, expected in zip(jax.jit(mapped)(x), plain(x), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "batch" not in jax.jit(mapped).lower(x).as_text()
    assert "batching_dims" in jax.jit(plain).lower(x).as_text()


def test_lapack_has_one_thread_a_call():
    jax.block_until_ready(orthonormal(jnp.eye(3)))
    threads = [
        library["num_threads"]
        for library in threadpoolctl.threadpool_info()
        if "scipy.libs" in library["filepath"]
    ]
    assert threads == [1]


@pytest.mark.parametrize("side", [1, 511, 512, 1_000, 3_000])
def test_a_half_is_the_square_and_no_more_than_its_lower_blocks(side):
    x = np.random.default_rng(0).normal(size=(3, side)).astype(np.float32)
    half = jax.jit(halves.square)(x)
    np.testing.assert_allclose(halves.whole(half), x.T @ x, atol=1e-5)
    assert jax.tree.map(jnp.shape, half) == jax.tree.map(jnp.shape, halves.zeros(side))
    rows = len(half)
    kept = sum(row.size for row in half) / side**2
    assert kept == pytest.approx((rows + 1) / (2 * rows), rel=0.01)
    assert rows == {1: 1, 511: 1, 512: 2, 1_000: 3, 3_000: 8}[side]


def test_many_batches_at_once_end():
    """As batches of LAPACK's calls they wait for each other for ever."""
    env = os.environ | {"PYTHONPATH": os.getcwd(), "XLA_FLAGS": ""}
    subprocess.run([sys.executable, "-c", MANY], env=env, check=True, timeout=60)
