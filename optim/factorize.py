"""Factorizations of matrices: many at once, and one after the other on a CPU.

There XLA hands the matrices of a batch to the threads that its program runs on, and
waits for them in one of these: two batches at once deadlock on two cores (LOG.md).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def eigh(x_XX: Float[Array, "X X"]) -> tuple[Float[Array, "X"], Float[Array, "X X"]]:
    """Eigenvalues, the smallest first, and eigenvectors of a symmetric matrix."""
    return _mapped(lambda x: tuple(jnp.linalg.eigh(x)), x_XX)


def orthonormal(x_XY: Float[Array, "X Y"]) -> Float[Array, "X Y"]:
    """Q of the QR decomposition: columns that span what those of x do, in order."""
    return _mapped(lambda x: jnp.linalg.qr(x)[0], x_XY)


def svd(x_XY: Float[Array, "X Y"]) -> tuple[Array, Array, Array]:
    """U, the singular values, and V transposed; as many as the shorter side."""
    return _mapped(lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)), x_XY)


def _mapped(function: Callable[[Array], Any], x: Array) -> Any:
    alone = jax.custom_batching.sequential_vmap(function)
    return jax.lax.platform_dependent(x, cpu=alone, default=function)
