"""What is added to the scores of attention for the distance of query and key.

Source: `Relative`: Raffel et al. 2019 (T5), https://arxiv.org/abs/1910.10683, section
2.1; `Alibi`: Press et al. 2021, https://arxiv.org/abs/2108.12409. Where a row holds
several segments, distances in the row are those in the segment, for what matters.

Letter beyond STYLE.md's: `R` ranges of distance that share a number.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Ranges:
    """How distances fall into ranges: exactly up to a half, then ever more widely.

    Beyond `max_distance` all are one; of a causal mask, only the past counts.
    """

    num_ranges: int = 32
    max_distance: int = 128
    causal: bool = False

    def of(self, ahead_LM: Int[Array, "L M"]) -> Int[Array, "L M"]:
        """The range of each distance; `ahead_LM` is key place minus query place."""
        num_ranges, offset_LM = self.num_ranges, jnp.zeros_like(ahead_LM)
        if self.causal:
            distance_LM = jnp.maximum(-ahead_LM, 0)
        else:
            num_ranges //= 2
            offset_LM = jnp.where(ahead_LM > 0, num_ranges, 0)
            distance_LM = jnp.abs(ahead_LM)
        exact = num_ranges // 2
        growth = jnp.log(jnp.maximum(distance_LM, 1) / exact)
        growth /= math.log(self.max_distance / exact)
        wide_LM = exact + (growth * (num_ranges - exact)).astype(jnp.int32)
        wide_LM = jnp.minimum(wide_LM, num_ranges - 1)
        return offset_LM + jnp.where(distance_LM < exact, distance_LM, wide_LM)


class Relative(NamedTuple):
    """A learned number for each head and range of distance."""

    distance_RH: Float[Array, "R H"]
    ranges: Ranges = Ranges()

    def at(
        self, place_L: Int[Array, "L"], memory_place_M: Int[Array, "M"]
    ) -> Float[Array, "H L M"]:
        """The bias of each pair."""
        range_LM = self.ranges.of(memory_place_M[None, :] - place_L[:, None])
        bias_LMH = self.distance_RH.astype(jnp.float32)[range_LM]
        return jnp.einsum("LMH->HLM", bias_LMH)


class Alibi(NamedTuple):
    """A penalty that grows with the distance, at a rate of each head's own."""

    slope_H: Float[Array, "H"]

    def at(
        self, place_L: Int[Array, "L"], memory_place_M: Int[Array, "M"]
    ) -> Float[Array, "H L M"]:
        """The bias of each pair."""
        distance_LM = jnp.abs(memory_place_M[None, :] - place_L[:, None])
        return -self.slope_H[:, None, None] * distance_LM[None].astype(jnp.float32)


Bias = Relative | Alibi


def alibi(num_heads: int) -> Alibi:
    """2^(-8 h / H) for h = 1 ... H; of another H than a power of two, as the paper's
    code has it: those of the power below, and every other one of the power above.

    >>> alibi(4).slope_H.tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    below = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * h / below) for h in range(1, below + 1)]
    slopes += [2 ** (-4 * h / below) for h in range(1, 2 * below, 2)]
    return Alibi(jnp.asarray(slopes[:num_heads], jnp.float32))
