"""Attention a block of scores at a time: O(n) memory forward and backward, any device.

Source: Rabe & Staats 2021, https://arxiv.org/abs/2112.05682; Dao 2023,
https://arxiv.org/abs/2307.08691, algorithms 1 and 2. It departs from them in that pairs
of blocks in which no query may see a key are skipped at run time, whatever the reason:
order, window, another text, padding.

Letters beyond STYLE.md's: `R` heads of a group; `Q` queries of a block, `C` keys of
one; `I` and `J` blocks of queries and keys.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.numbers import off
from core.types import Number
from models.attend.bias import Bias
from models.attend.blocks import (
    Block,
    Sizes,
    blocks_of,
    cut_keys,
    cut_queries,
    join_keys,
    join_queries,
    needed_IJ,
    visible,
)
from models.attend.mask import Mask, Rule
from models.attend.plain import capped
from models.dropout import Drop

# Scores at a time: on a CPU as many as its caches hold, elsewhere so many that
# starting a step costs nothing beside it.
NUM_SCORES = {"cpu": 2**20}
NUM_SCORES_ELSEWHERE = 2**24
SMALLEST, LARGEST = 64, 512


class Extras(NamedTuple):
    """What a score has beside query and key; None where it has not."""

    bias: Bias | None
    softcap: Number | None


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    bias: Bias | None = None,
    softcap: Number = math.inf,
    drop: Drop | None = None,
    block: int = 0,
) -> Float[Array, "B L H K"]:
    """As `models/attend/plain.py`, with `block` x `block` scores a head at a time.

    0 is a size that suits the device.
    """
    B, L, H, _ = query_BLHK.shape
    block = block or block_size(B * H, jax.default_backend())
    M = key_BMGK.shape[1]
    sizes = Sizes(L, M, H, min(block, L), min(block, M))
    extras = Extras(bias, None if off(softcap, math.inf) else softcap)
    return _attend(sizes, query_BLHK, key_BMGK, value_BMGK, extras, drop, mask)


def block_size(num_heads: int, platform: str) -> int:
    """The side of a block, for so many heads of all rows.

    >>> block_size(64, "cpu"), block_size(64, "tpu")
    (128, 512)
    """
    num_scores = NUM_SCORES.get(platform, NUM_SCORES_ELSEWHERE)
    side = 2 ** int(math.log2(num_scores / num_heads) / 2)
    return min(max(side, SMALLEST), LARGEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(sizes, query_BLHK, key_BMGK, value_BMGK, extras, drop, mask):
    return _forward(sizes, query_BLHK, key_BMGK, value_BMGK, extras, drop, mask)[0]


def _attend_forward(sizes, query_BLHK, key_BMGK, value_BMGK, extras, drop, mask):
    given = query_BLHK, key_BMGK, value_BMGK, extras, drop, mask
    out_BLHK, logsum_IBGRQ = _forward(sizes, *given)
    return out_BLHK, (given, out_BLHK, logsum_IBGRQ)


def _forward(sizes: Sizes, query_BLHK, key_BMGK, value_BMGK, extras, drop, mask):
    """The result, and the logarithm of each query's sum, by blocks."""
    queries, keys = blocks_of(sizes, mask)
    query_IBGRQK = cut_queries(sizes, query_BLHK, key_BMGK.shape[2])
    memory = cut_keys(sizes, key_BMGK), cut_keys(sizes, value_BMGK), keys

    def of_block(parts):
        query_BGRQK, block, needed_J = parts
        pairs = Pairs(sizes, mask.rule, extras, drop, query_BGRQK, block)

        def add(sums, parts):
            needed, (key_BGCK, value_BGCK, other) = parts
            more = functools.partial(pairs.add, key_BGCK, value_BGCK, other)
            return jax.lax.cond(needed, more, lambda same: same, sums), None

        none_BGRQ = jnp.zeros(query_BGRQK.shape[:-1], jnp.float32)
        start = (
            jnp.zeros(query_BGRQK.shape, jnp.float32),
            none_BGRQ - jnp.inf,
            none_BGRQ,
        )
        sums, _ = jax.lax.scan(add, start, (needed_J, memory))
        mixed_BGRQK, top_BGRQ, total_BGRQ = sums
        sees_BGRQ = total_BGRQ > 0
        total_BGRQ = jnp.where(sees_BGRQ, total_BGRQ, 1.0)
        out_BGRQK = (mixed_BGRQK / total_BGRQ[..., None]).astype(query_BGRQK.dtype)
        return out_BGRQK, jnp.where(sees_BGRQ, top_BGRQ, 0.0) + jnp.log(total_BGRQ)

    needed = needed_IJ(mask.rule, queries, keys)
    out, logsum = jax.lax.map(of_block, (query_IBGRQK, queries, needed))
    return join_queries(sizes, out), logsum


def _attend_backward(sizes: Sizes, residuals, grad_BLHK):
    given, out_BLHK, logsum_IBGRQ = residuals
    query_BLHK, key_BMGK, value_BMGK, extras, drop, mask = given
    queries, keys = blocks_of(sizes, mask)
    memory = cut_keys(sizes, key_BMGK), cut_keys(sizes, value_BMGK), keys
    delta_BLH1 = jnp.einsum(
        "BLHK,BLHK->BLH", out_BLHK, grad_BLHK, preferred_element_type=jnp.float32
    )[..., None]
    of_queries = [
        cut_queries(sizes, x, key_BMGK.shape[2])
        for x in (query_BLHK, grad_BLHK, delta_BLH1)
    ]

    def of_block(sums, parts):
        query_BGRQK, *given, block, needed_J = parts
        pairs = Pairs(sizes, mask.rule, extras, drop, query_BGRQK, block)

        def add(sums, parts):
            needed, number, others = parts
            more = functools.partial(pairs.gradients, *others, *given)
            none = functools.partial(jax.tree.map, _zeros, jax.eval_shape(more))
            found = jax.lax.cond(needed, more, none)
            return (
                sums[0] + found[0],
                sums[1].at[number].add(found[1]),
                sums[2].at[number].add(found[2]),
                jax.tree.map(jnp.add, sums[3], found[3]),
            ), None

        numbers = jnp.arange(len(needed_J))
        start = (_zeros(query_BGRQK), *sums)
        sums, _ = jax.lax.scan(add, start, (needed_J, numbers, memory))
        return sums[1:], sums[0].astype(query_BGRQK.dtype)

    needed = needed_IJ(mask.rule, queries, keys)
    sums = jax.tree.map(_zeros, (*memory[:2], extras))
    (of_key, of_value, of_extras), of_query = jax.lax.scan(
        of_block, sums, (*of_queries, logsum_IBGRQ, queries, needed)
    )
    of_extras = jax.tree.map(lambda g, x: g.astype(x.dtype), of_extras, extras)
    return (
        join_queries(sizes, of_query),
        join_keys(sizes, of_key).astype(key_BMGK.dtype),
        join_keys(sizes, of_value).astype(value_BMGK.dtype),
        of_extras,
        None,
        None,
    )


_attend.defvjp(_attend_forward, _attend_backward)


class Pairs(NamedTuple):
    """A block of queries, to be met by blocks of keys."""

    sizes: Sizes
    rule: Rule
    extras: Extras
    drop: Drop | None
    query_BGRQK: Float[Array, "B G R Q K"]
    block: Block

    def add(self, key_BGCK, value_BGCK, other: Block, sums):
        """The sums over one more block of keys: of values, and of their weights.

        Both are relative to e to the highest score so far, the second of the three.
        """
        mixed_BGRQK, top_BGRQ, total_BGRQ = sums
        score_BGRQC = self._scores(self.query_BGRQK, key_BGCK, self.extras, other)
        score_BGRQC = jnp.where(self._visible(other), score_BGRQC, -jnp.inf)
        new_BGRQ = jnp.maximum(top_BGRQ, score_BGRQC.max(-1))
        base_BGRQ = jnp.where(new_BGRQ == -jnp.inf, 0.0, new_BGRQ)
        weight_BGRQC = jnp.exp(score_BGRQC - base_BGRQ[..., None])
        shrink_BGRQ = jnp.exp(top_BGRQ - base_BGRQ)
        total_BGRQ = total_BGRQ * shrink_BGRQ + weight_BGRQC.sum(-1)
        weight_BGRQC = self._dropped(weight_BGRQC, other).astype(value_BGCK.dtype)
        more_BGRQK = jnp.einsum(
            "BGRQC,BGCK->BGRQK",
            weight_BGRQC,
            value_BGCK,
            preferred_element_type=jnp.float32,
        )
        return mixed_BGRQK * shrink_BGRQ[..., None] + more_BGRQK, new_BGRQ, total_BGRQ

    def gradients(
        self, key_BGCK, value_BGCK, other, grad_BGRQK, delta_BGRQ1, logsum_BGRQ
    ):
        """What one block of keys adds to those of queries, keys, values and extras.

        The weights are made again; `delta` is what the softmax's gradient subtracts.
        """
        score_BGRQC, pull = jax.vjp(
            functools.partial(self._scores, other=other),
            self.query_BGRQK,
            key_BGCK,
            self.extras,
        )
        weight_BGRQC = jnp.exp(score_BGRQC - logsum_BGRQ[..., None])
        weight_BGRQC = jnp.where(self._visible(other), weight_BGRQC, 0.0)
        dropped_BGRQC = self._dropped(weight_BGRQC, other).astype(grad_BGRQK.dtype)
        value_grad_BGCK = jnp.einsum(
            "BGRQC,BGRQK->BGCK",
            dropped_BGRQC,
            grad_BGRQK,
            preferred_element_type=jnp.float32,
        )
        of_weight_BGRQC = jnp.einsum(
            "BGRQK,BGCK->BGRQC",
            grad_BGRQK,
            value_BGCK,
            preferred_element_type=jnp.float32,
        )
        of_weight_BGRQC = self._dropped(of_weight_BGRQC, other)
        of_query, of_key, of_extras = pull(
            weight_BGRQC * (of_weight_BGRQC - delta_BGRQ1)
        )
        found = of_query, of_key, value_grad_BGCK, of_extras
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), found)

    def _scores(self, query_BGRQK, key_BGCK, extras: Extras, other: Block):
        score_BGRQC = jnp.einsum(
            "BGRQK,BGCK->BGRQC",
            query_BGRQK,
            key_BGCK,
            preferred_element_type=jnp.float32,
        )
        if extras.softcap is not None:
            score_BGRQC = capped(score_BGRQC, extras.softcap)
        if extras.bias is not None:
            bias_HQC = extras.bias.at(self.block.row_Q, other.row_Q)
            score_BGRQC += bias_HQC.reshape(1, *score_BGRQC.shape[1:])
        return score_BGRQC

    def _visible(self, other: Block):
        return visible(self.rule, self.block, other)[:, None, None]

    def _dropped(self, x_BGRQC, other: Block):
        """Dropout as of a part of all B H L M."""
        if self.drop is None:
            return x_BGRQC
        H, L, M, R = self.sizes.H, self.sizes.L, self.sizes.M, x_BGRQC.shape[2]
        strides = (H * L * M, R * L * M, L * M, M, 1)
        first = self.block.row_Q[0] * M + other.row_Q[0]
        return self.drop.of_part(x_BGRQC, strides, first)


def _zeros(leaf):
    return jnp.zeros(leaf.shape, jnp.float32)
