"""Averages that merge exactly."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Mean(NamedTuple):
    """A weighted mean, kept as its two sums.

    Shards, microbatches and evaluation batches merge by addition; the one division
    comes last. (A mean of means is wrong as soon as batches differ in padding.)
    """

    total: Float[Array, ""]
    weight: Float[Array, ""]

    @classmethod
    def of(cls, x: Float[Array, "*axes"], weight: Float[Array, "*axes"]) -> "Mean":
        """The mean of `x` under `weight`, which has its shape."""
        return cls((x * weight).sum(), weight.sum())

    @classmethod
    def single(cls, x: Float[Array, ""]) -> "Mean":
        """One value, of weight 1."""
        return cls(jnp.asarray(x, jnp.float32), jnp.float32(1))

    @property
    def value(self) -> Float[Array, ""]:
        """The mean; NaN where nothing was counted."""
        return self.total / self.weight
