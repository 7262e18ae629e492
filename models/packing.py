"""What several examples in one row need: places, what may see what, shifted inputs.

Segment 0 is padding; 1, 2, ... are the examples of a row.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def starts(segment_BL: Int[Array, "B L"]) -> Bool[Array, "B L"]:
    """True at the first token of every segment."""
    before_BL = jnp.pad(segment_BL[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return segment_BL != before_BL


def places(segment_BL: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """0, 1, 2, ... within each segment.

    >>> places(jnp.array([[1, 1, 1, 2, 2, 0]]))
    Array([[0, 1, 2, 0, 1, 0]], dtype=int32)
    """
    at_BL = jnp.broadcast_to(jnp.arange(segment_BL.shape[1]), segment_BL.shape)
    first_BL = jax.lax.cummax(jnp.where(starts(segment_BL), at_BL, 0), axis=1)
    return at_BL - first_BL


def shifted(
    token_BL: Int[Array, "B L"], segment_BL: Int[Array, "B L"], start: int
) -> Int[Array, "B L"]:
    """What a decoder reads to predict `token_BL`: `start`, then all but the last.

    >>> shifted(jnp.array([[5, 6, 1, 7, 1]]), jnp.array([[1, 1, 1, 2, 2]]), 3)
    Array([[3, 5, 6, 3, 7]], dtype=int32)
    """
    before_BL = jnp.pad(token_BL[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(starts(segment_BL), start, before_BL)


def visible(
    segment_BL: Int[Array, "B L"],
    memory_segment_BM: Int[Array, "B M"],
    *,
    causal: bool = False,
) -> Bool[Array, "B L M"]:
    """True where a query may look: same segment, no padding, not ahead if causal."""
    same_BLM = segment_BL[:, :, None] == memory_segment_BM[:, None, :]
    visible_BLM = same_BLM & (segment_BL > 0)[:, :, None]
    if causal:
        L, M = visible_BLM.shape[1:]
        visible_BLM &= jnp.tril(jnp.ones((L, M), bool))[None]
    return visible_BLM


def sinusoids(length: int, width: int) -> Float[np.ndarray, "L D"]:
    """sin and cos of place / 10000^(2i / D), the sines first.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5, which
    interleaves the two; a permutation of features makes no difference to a layer.
    """
    half = -(-width // 2)
    rate = np.exp(np.arange(half) * -(np.log(10_000.0) / max(half - 1, 1)))
    angle = np.arange(length)[:, None] * rate[None]
    return np.concatenate([np.sin(angle), np.cos(angle)], 1)[:, :width].astype("f4")
