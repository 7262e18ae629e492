"""Who may look at whom: segments, order, windows, blocks, prefixes.

A mask is kept as numbers of tokens, not of pairs: an implementation makes the pairs it
needs, whole or block by block.

Source: window: Jiang et al. 2023 (Mistral), https://arxiv.org/abs/2310.06825, section
2; blocks with global tokens: Phang et al. 2022 (PEGASUS-X),
https://arxiv.org/abs/2208.04347, section 3; prefix: Raffel et al. 2019 (T5),
https://arxiv.org/abs/1910.10683, section 3.2.1.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rule:
    """What a mask says whatever the tokens are; part of the program.

    `window` places back are seen, one's own counted (and as many ahead unless causal);
    of `block` places only those of one's own block. The first `num_global` places of a
    segment see all, and are seen by all, that the order allows. 0 turns each off.
    """

    causal: bool = False
    window: int = 0
    block: int = 0
    num_global: int = 0

    def allows(
        self,
        place_BL: Int[Array, "B L"],
        memory_place_BM: Int[Array, "B M"],
        prefix_BM: Bool[Array, "B M"] | None = None,
    ) -> Bool[Array, "B L M"]:
        """True where order and nearness let a query look, in one and the same segment.

        What lies in a prefix is seen from before it, too.
        """
        query_BL1, key_B1M = place_BL[:, :, None], memory_place_BM[:, None, :]
        near_BLM = jnp.ones((*place_BL.shape, memory_place_BM.shape[1]), bool)
        if self.window:
            near_BLM &= jnp.abs(query_BL1 - key_B1M) < self.window
        if self.block:
            near_BLM &= query_BL1 // self.block == key_B1M // self.block
        if self.num_global:
            near_BLM |= jnp.minimum(query_BL1, key_B1M) < self.num_global
        if not self.causal:
            return near_BLM
        past_BLM = key_B1M <= query_BL1
        if prefix_BM is not None:
            past_BLM |= prefix_BM[:, None, :]
        return near_BLM & past_BLM


class Mask(NamedTuple):
    """Segments and places of queries and keys. Segment 0 is padding.

    Places count from 0 in each segment; a segment's tokens lie side by side.
    """

    segment_BL: Int[Array, "B L"]
    place_BL: Int[Array, "B L"]
    memory_segment_BM: Int[Array, "B M"]
    memory_place_BM: Int[Array, "B M"]
    prefix_BM: Bool[Array, "B M"] | None = None
    rule: Rule = Rule()

    def visible(self) -> Bool[Array, "B L M"]:
        """True where a query may look."""
        segment_BL1 = self.segment_BL[:, :, None]
        same_BLM = segment_BL1 == self.memory_segment_BM[:, None, :]
        return (
            same_BLM
            & (segment_BL1 > 0)
            & self.rule.allows(self.place_BL, self.memory_place_BM, self.prefix_BM)
        )

    def sees(self) -> Bool[Array, "B L"]:
        """True where a query sees anything: its text is there, and then no rule of
        order or nearness hides all of it.
        """
        segment_BL1 = self.segment_BL[:, :, None]
        same_BLM = segment_BL1 == self.memory_segment_BM[:, None, :]
        return same_BLM.any(2) & (self.segment_BL > 0)
