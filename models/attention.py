"""Multi-head attention.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from core.types import Number
from models.dropout import Dropout, Generator
from models.kernel import kernel


class Memory(NamedTuple):
    """Keys and values of a layer as a cache holds them.

    Each lies as its matrix product reads it: on a CPU this is three times as fast as
    `BMHK`, which is the faster when there are as many queries as keys.
    """

    key_BHKM: Float[Array, "B H K M"]
    value_BHMK: Float[Array, "B H M K"]


class Attention(nn.Module):
    """Each query averages the values of the memory it may see.

    Self-attention passes `x_BLD` twice. Scores and softmax are float32 whatever the
    inputs are. A query that may see nothing gets zeros, not an average of padding.
    """

    width: int
    num_heads: int
    dropout: Number = 0.0
    generator: Generator = "hash"

    def setup(self):
        D, H = self.width, self.num_heads
        K = D // H
        self.query = kernel(self, "query", (D, H, K))
        self.key = kernel(self, "key", (D, H, K))
        self.value = kernel(self, "value", (D, H, K))
        self.out = kernel(self, "out", (H, K, D), fan_in=2)
        self.drop = Dropout(self.dropout, self.generator)

    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        memory_BMD: Float[Array, "B M D"],
        visible_BLM: Bool[Array, "B L M"],
        *,
        train: bool,
    ) -> Float[Array, "B L D"]:
        return self.look(x_BLD, *self.remember(memory_BMD), visible_BLM, train=train)

    def remember(
        self, memory_BMD: Float[Array, "B M D"]
    ) -> tuple[Float[Array, "B M H K"], Float[Array, "B M H K"]]:
        """Keys and values of a memory."""
        k_DHK = self.key.astype(memory_BMD.dtype)
        v_DHK = self.value.astype(memory_BMD.dtype)
        key_BMHK = jnp.einsum("BMD,DHK->BMHK", memory_BMD, k_DHK)
        value_BMHK = jnp.einsum("BMD,DHK->BMHK", memory_BMD, v_DHK)
        return key_BMHK, value_BMHK

    def look(
        self,
        x_BLD: Float[Array, "B L D"],
        key_BMHK: Float[Array, "B M H K"],
        value_BMHK: Float[Array, "B M H K"],
        visible_BLM: Bool[Array, "B L M"],
        *,
        train: bool,
    ) -> Float[Array, "B L D"]:
        """Attention to keys and values that are there already."""
        query_BLHK = self._queries(x_BLD)
        score_BHLM = jnp.einsum(
            "BLHK,BMHK->BHLM", query_BLHK, key_BMHK, preferred_element_type=jnp.float32
        )
        weight_BHLM = jax.nn.softmax(score_BHLM, where=visible_BLM[:, None])
        weight_BHLM = self.drop(weight_BHLM.astype(x_BLD.dtype), train=train)
        mixed_BLHK = jnp.einsum("BHLM,BMHK->BLHK", weight_BHLM, value_BMHK)
        return self._project(mixed_BLHK)

    def extend(
        self,
        x_BLD: Float[Array, "B L D"],
        past: Memory,
        slot: Int[Array, ""],
        visible_BLS: Bool[Array, "B L S"],
    ) -> tuple[Float[Array, "B L D"], Memory]:
        """One more token of each of L continuations, in L slots of their common past.

        `visible_BLS` tells them apart, and shows each its own new slot too. Returns the
        past with the new slots filled.
        """
        insert = jax.lax.dynamic_update_slice_in_dim
        new = self.memorize(x_BLD)
        past = Memory(
            insert(past.key_BHKM, new.key_BHKM, slot, axis=3),
            insert(past.value_BHMK, new.value_BHMK, slot, axis=2),
        )
        return self.recall(x_BLD, past, visible_BLS), past

    def memorize(self, memory_BMD: Float[Array, "B M D"]) -> Memory:
        """What `recall` looks at."""
        key_BMHK, value_BMHK = self.remember(memory_BMD)
        return Memory(
            jnp.einsum("BMHK->BHKM", key_BMHK), jnp.einsum("BMHK->BHMK", value_BMHK)
        )

    def recall(
        self,
        x_BLD: Float[Array, "B L D"],
        memory: Memory,
        visible_BLM: Bool[Array, "B L M"],
    ) -> Float[Array, "B L D"]:
        """`look`, without dropout, at a cache: few queries, each token anew."""
        score_BHLM = jnp.einsum(
            "BLHK,BHKM->BHLM",
            self._queries(x_BLD),
            memory.key_BHKM,
            preferred_element_type=jnp.float32,
        )
        weight_BHLM = jax.nn.softmax(score_BHLM, where=visible_BLM[:, None])
        weight_BHLM = weight_BHLM.astype(x_BLD.dtype)
        # In this order of axes the product needs no transpose of the values.
        mixed_BHLK = jnp.einsum("BHLM,BHMK->BHLK", weight_BHLM, memory.value_BHMK)
        return self._project(jnp.einsum("BHLK->BLHK", mixed_BHLK))

    def _queries(self, x_BLD):
        """Scaled by 1 / sqrt(K), which is cheaper here than on the scores."""
        q_DHK = (self.query * self.query.shape[-1] ** -0.5).astype(x_BLD.dtype)
        return jnp.einsum("BLD,DHK->BLHK", x_BLD, q_DHK)

    def _project(self, mixed_BLHK):
        o_HKD = self.out.astype(mixed_BLHK.dtype)
        return jnp.einsum("BLHK,HKD->BLD", mixed_BLHK, o_HKD)
