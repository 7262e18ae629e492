"""Symmetric matrices by their lower halves: three fifths of the products and the room.

A half is a tuple of rows of blocks, each as wide as its diagonal block reaches: of a
side of 1,280 (256, 256), (256, 512) and so on to (256, 1280).

X is a side, and K is what a product sums over.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK, MOST_ROWS = 256, 8
EXACT = jax.lax.Precision.HIGHEST

Half = tuple[Array, ...]


def zeros(side: int) -> Half:
    """The half of a matrix of zeros, in float32."""
    ends = _ends(side)
    starts = [0, *ends[:-1]]
    pairs = zip(starts, ends, strict=True)
    return tuple(jnp.zeros((end - start, end), jnp.float32) for start, end in pairs)


def square(x_KX: Float[Array, "K X"]) -> Half:
    """The half of x^T x.

    >>> [row.shape for row in square(jnp.zeros((3, 520)))]
    [(260, 260), (260, 520)]
    """
    ends = _ends(x_KX.shape[1])
    rows = jnp.split(x_KX, ends[:-1], axis=1)
    pairs = zip(rows, ends, strict=True)
    return tuple(jnp.matmul(x.T, x_KX[:, :end], precision=EXACT) for x, end in pairs)


def whole(half: Half) -> Float[Array, "X X"]:
    """The matrix."""
    side = half[-1].shape[1]
    padded = [jnp.pad(row, ((0, 0), (0, side - row.shape[1]))) for row in half]
    low_XX = jnp.tril(jnp.concatenate(padded))
    return low_XX + jnp.tril(low_XX, -1).T


def _ends(side):
    count = min(max(1, side // BLOCK), MOST_ROWS)
    return [side * number // count for number in range(1, count + 1)]
