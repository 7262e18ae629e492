"""Matrices of many layers, one at a time on a CPU.

There XLA hands the matrices of a batch to the threads that its program runs on, and
waits for them in one of these: two batches of factorizations at once deadlock on two
cores (LOG.md). Side by side, each is a call by itself, on one thread: LAPACK is
SciPy's, whose own threads would fight with those that XLA calls it from.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import scipy.linalg.lapack  # noqa: F401  what it loads has threads to limit
import threadpoolctl
from jaxtyping import Array, Float

MOST_SIDE_BY_SIDE = 16  # more of them would make programs long


def eigh(x_XX: Float[Array, "X X"]) -> tuple[Float[Array, "X"], Float[Array, "X X"]]:
    """Eigenvalues, the smallest first, and eigenvectors of a symmetric matrix."""
    return _factorized(lambda x: tuple(jnp.linalg.eigh(x)), x_XX)


def orthonormal(x_XY: Float[Array, "X Y"]) -> Float[Array, "X Y"]:
    """Q of the QR decomposition: columns that span what those of x do, in order."""
    return _factorized(lambda x: jnp.linalg.qr(x)[0], x_XY)


def svd(x_XY: Float[Array, "X Y"]) -> tuple[Array, Array, Array]:
    """U, the singular values, and V transposed; as many as the shorter side."""
    return _factorized(lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)), x_XY)


def one_by_one(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """A function whose `vmap` calls it for each: side by side, or in turn if many."""
    one = jax.custom_batching.custom_vmap(function)

    @one.def_vmap
    def each(axis_size, in_batched, x):
        del in_batched
        if axis_size > MOST_SIDE_BY_SIDE:
            found = jax.lax.map(one, x)
        else:
            parts = [one(x[number]) for number in range(axis_size)]
            found = jax.tree.map(lambda *part: jnp.stack(part), *parts)
        return found, jax.tree.map(lambda _: True, found)

    return one


def _factorized(function: Callable[[Array], Any], x: Array) -> Any:
    if jax.default_backend() == "cpu":
        _one_thread()
    return jax.lax.platform_dependent(x, cpu=one_by_one(function), default=function)


@functools.cache
def _one_thread():
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        if "scipy.libs" in library.filepath:
            library.set_num_threads(1)
