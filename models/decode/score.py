"""What an output is worth.

Source: Wu et al. 2016 (GNMT), https://arxiv.org/abs/1609.08144, equation 14, without
its coverage term.
"""

from jaxtyping import Array, Float, Int

from core.types import Number


def normalized(
    logp: Float[Array, "*axes"], length: Int[Array, "..."], length_penalty: Number
) -> Float[Array, "*axes"]:
    """log p / ((5 + length) / 6)^length_penalty; the end counts in the length.

    >>> import jax.numpy as jnp
    >>> float(normalized(jnp.float32(-3.0), jnp.int32(7), 1.0))
    -1.5
    """
    return logp / ((5.0 + length) / 6.0) ** length_penalty
