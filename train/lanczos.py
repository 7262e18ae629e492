"""The largest eigenvalue of a symmetric matrix that is known by its products.

Source: Lanczos 1950, https://doi.org/10.6028/jres.045.026; full reorthogonalization,
twice: Parlett 1998, The Symmetric Eigenvalue Problem, sections 13.8 and 6.9.

Letters beyond STYLE.md's: `P` places of a vector; `I`, `J` steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

# Of the matrix's size: what is left of a vector below this is rounding.
SMALL = 1e-6


class Top(NamedTuple):
    """The largest Ritz value; an eigenvalue lies within `error` of it, never below.

    (To rounding.) It grows to the largest eigenvalue with the number of steps.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]


def top_eigenvalue(
    product: Callable[[Array], Array], start_P: Float[Array, "P"], num_steps: int
) -> Top:
    """After `num_steps` products, each of one vector of length 1.

    All earlier vectors are kept, `num_steps` times P numbers, and each new one is made
    orthogonal to all of them: without that, rounding would bring the first ones back.
    Where the products lead nowhere new, the rest of the steps change nothing.
    """
    alpha_I, beta_I = tridiagonal(product, start_P, num_steps)
    side = beta_I[:-1]
    matrix_IJ = jnp.diag(alpha_I) + jnp.diag(side, 1) + jnp.diag(side, -1)
    value_J, vector_IJ = jnp.linalg.eigh(matrix_IJ)
    return Top(value_J[-1], beta_I[-1] * jnp.abs(vector_IJ[-1, -1]))


def tridiagonal(
    product: Callable[[Array], Array], start_P: Float[Array, "P"], num_steps: int
) -> tuple[Float[Array, "I"], Float[Array, "I"]]:
    """The diagonal, and what is beside it; the last beta leads out of the matrix.

    v_0 = start / |start|; alpha_i = v_i . A v_i; beta_i v_{i+1} = A v_i less its parts
    along v_0 ... v_i. Once beta is rounding, it is 0 and each alpha is the first one,
    which lies between the smallest and the largest eigenvalue.
    """

    def step(carry, i):
        basis_IP, v_P, size, alive = carry
        basis_IP = basis_IP.at[i].set(v_P)
        w_P = product(v_P)
        alpha = _dot(v_P, w_P)
        for _ in range(2):  # once leaves rounding that grows
            w_P = w_P - _dot(_dot(basis_IP, w_P), basis_IP)
        beta = jnp.sqrt(_dot(w_P, w_P))
        size = jnp.maximum(size, jnp.abs(alpha) + beta)
        goes_on = alive & (beta > SMALL * size)
        v_P = jnp.where(goes_on, w_P / beta, 0.0)
        beta = jnp.where(goes_on, beta, 0.0)
        return (basis_IP, v_P, size, goes_on), (alpha, beta, alive)

    v_P = start_P / jnp.sqrt(_dot(start_P, start_P))
    basis_IP = jnp.zeros((num_steps, *v_P.shape), v_P.dtype)
    begin = (basis_IP, v_P, jnp.zeros((), v_P.dtype), jnp.bool_(True))
    found = jax.lax.scan(step, begin, jnp.arange(num_steps))[1]
    alpha_I, beta_I, alive_I = found
    return jnp.where(alive_I, alpha_I, alpha_I[0]), beta_I


def _dot(x: Array, y: Array) -> Array:
    """In full precision, where a device would rather round its inputs."""
    return jnp.dot(x, y, precision=Precision.HIGHEST)
