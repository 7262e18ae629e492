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
NUM_SCORES = {"cpu": 2**21}
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
        start = _zeros(_keys_first(query_BGRQK)), none_BGRQ - jnp.inf, none_BGRQ
        sums, _ = jax.lax.scan(add, start, (needed_J, memory))
        mixed_BGKRQ, top_BGRQ, total_BGRQ = sums
        sees_BGRQ = total_BGRQ > 0
        total_BGRQ = jnp.where(sees_BGRQ, total_BGRQ, 1.0)
        out_BGRQK = _keys_last(mixed_BGKRQ / total_BGRQ[:, :, None])
        logsum_BGRQ = jnp.where(sees_BGRQ, top_BGRQ, 0.0) + jnp.log(total_BGRQ)
        return out_BGRQK.astype(query_BGRQK.dtype), logsum_BGRQ

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
    query, grad, delta = (
        cut_queries(sizes, x, key_BMGK.shape[2])
        for x in (query_BLHK, grad_BLHK, delta_BLH1)
    )

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
        start = (_zeros(_keys_first(query_BGRQK)), *sums)
        sums, _ = jax.lax.scan(add, start, (needed_J, numbers, memory))
        return sums[1:], _keys_last(sums[0]).astype(query_BGRQK.dtype)

    needed = needed_IJ(mask.rule, queries, keys)
    sums = jax.tree.map(_zeros, (*memory[:2], extras))
    (of_key, of_value, of_extras), of_query = jax.lax.scan(
        of_block, sums, (query, grad, delta[..., 0], logsum_IBGRQ, queries, needed)
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
        mixed_BGKRQ, top_BGRQ, total_BGRQ = sums
        score_BGCRQ = self._adjusted(self._products(key_BGCK), self.extras, other)
        score_BGCRQ = jnp.where(self._visible(other), score_BGCRQ, -jnp.inf)
        new_BGRQ = jnp.maximum(top_BGRQ, score_BGCRQ.max(2))
        base_BGRQ = jnp.where(new_BGRQ == -jnp.inf, 0.0, new_BGRQ)
        weight_BGCRQ = jnp.exp(score_BGCRQ - base_BGRQ[:, :, None])
        shrink_BGRQ = jnp.exp(top_BGRQ - base_BGRQ)
        total_BGRQ = total_BGRQ * shrink_BGRQ + weight_BGCRQ.sum(2)
        dropped_BGCRQ = self._dropped(weight_BGCRQ, other).astype(value_BGCK.dtype)
        more_BGKRQ = _over_keys(value_BGCK, dropped_BGCRQ)
        return (
            mixed_BGKRQ * shrink_BGRQ[:, :, None] + more_BGKRQ,
            new_BGRQ,
            total_BGRQ,
        )

    def gradients(
        self, key_BGCK, value_BGCK, other: Block, grad_BGRQK, delta_BGRQ, logsum_BGRQ
    ):
        """What one block of keys adds to those of queries, keys, values and extras.

        The weights are made again; `delta` is what the softmax's gradient subtracts.
        """
        score_BGCRQ, pull = jax.vjp(
            functools.partial(self._adjusted, other=other),
            self._products(key_BGCK),
            self.extras,
        )
        weight_BGCRQ = jnp.exp(score_BGCRQ - logsum_BGRQ[:, :, None])
        weight_BGCRQ = jnp.where(self._visible(other), weight_BGCRQ, 0.0)
        dropped_BGCRQ = self._dropped(weight_BGCRQ, other).astype(grad_BGRQK.dtype)
        of_value_BGCK = _einsum("BGCRQ,BGRQK->BGCK", dropped_BGCRQ, grad_BGRQK)
        of_weight_BGCRQ = _einsum("BGCK,BGRQK->BGCRQ", value_BGCK, grad_BGRQK)
        of_weight_BGCRQ = self._dropped(of_weight_BGCRQ, other)
        of_score_BGCRQ = weight_BGCRQ * (of_weight_BGCRQ - delta_BGRQ[:, :, None])
        of_product_BGCRQ, of_extras = pull(of_score_BGCRQ)
        of_product_BGCRQ = of_product_BGCRQ.astype(key_BGCK.dtype)
        of_query_BGKRQ = _over_keys(key_BGCK, of_product_BGCRQ)
        of_key_BGCK = _einsum("BGCRQ,BGRQK->BGCK", of_product_BGCRQ, self.query_BGRQK)
        of_extras = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), of_extras)
        return of_query_BGKRQ, of_key_BGCK, of_value_BGCK, of_extras

    def _products(self, key_BGCK):
        return _einsum("BGCK,BGRQK->BGCRQ", key_BGCK, self.query_BGRQK)

    def _adjusted(self, score_BGCRQ, extras: Extras, other: Block):
        """With cap and bias."""
        if extras.softcap is not None:
            score_BGCRQ = capped(score_BGCRQ, extras.softcap)
        if extras.bias is not None:
            _, G, C, R, Q = score_BGCRQ.shape
            bias_HQC = extras.bias.at(self.block.row_Q, other.row_Q)
            bias_GRQC = bias_HQC.reshape(G, R, Q, C)
            score_BGCRQ += jnp.einsum("GRQC->GCRQ", bias_GRQC)[None]
        return score_BGCRQ

    def _visible(self, other: Block):
        visible_BQC = visible(self.rule, self.block, other)
        return jnp.einsum("BQC->BCQ", visible_BQC)[:, None, :, None]

    def _dropped(self, x_BGCRQ, other: Block):
        """Dropout as of a part of all B H L M."""
        if self.drop is None:
            return x_BGCRQ
        H, L, M, R = self.sizes.H, self.sizes.L, self.sizes.M, x_BGCRQ.shape[3]
        strides = (H * L * M, R * L * M, 1, L * M, M)
        first = self.block.row_Q[0] * M + other.row_Q[0]
        return self.drop.of_part(x_BGCRQ, strides, first)


# In this order of axes no product on the way back needs a transpose of the scores.
_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _over_keys(x_BGCK, y_BGCRQ):
    """The sum of their products over C.

    R and Q go as one axis: a CPU has no such product of three axes in bfloat16.
    """
    B, G, C, R, Q = y_BGCRQ.shape
    y_BGCQ = y_BGCRQ.reshape(B, G, C, R * Q)
    sum_BGKQ = _einsum("BGCK,BGCQ->BGKQ", x_BGCK, y_BGCQ)
    return sum_BGKQ.reshape(B, G, -1, R, Q)


def _keys_first(x_BGRQK):
    return jnp.einsum("BGRQK->BGKRQ", x_BGRQK)


def _keys_last(x_BGKRQ):
    return jnp.einsum("BGKRQ->BGRQK", x_BGKRQ)


def _zeros(leaf):
    return jnp.zeros(leaf.shape, jnp.float32)
