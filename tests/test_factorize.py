"""optim/factorize.py: the factors are numpy's, and many of them do not hang."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optim.factorize import eigh, orthonormal, svd

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


def test_many_batches_at_once_end():
    """As batches of LAPACK's calls they wait for each other for ever."""
    env = os.environ | {"PYTHONPATH": os.getcwd(), "XLA_FLAGS": ""}
    subprocess.run([sys.executable, "-c", MANY], env=env, check=True, timeout=60)
