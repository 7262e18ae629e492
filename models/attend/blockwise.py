"""Attention a block of scores at a time: O(n) memory forward and backward, any device.

Source: Rabe & Staats 2021, https://arxiv.org/abs/2112.05682; Dao 2023,
https://arxiv.org/abs/2307.08691, algorithms 1 and 2. It departs from them in that pairs
of blocks in which no query may see a key are skipped at run time, whatever the reason:
order, window, another text, padding.

Letters beyond STYLE.md's: `R` heads of a group; `Q` queries of a block, `C` keys of one;
`I` and `J` blocks of queries and keys.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.numbers import off
from core.types import Number
from models.attend.bias import Bias
from models.attend.blocks import Block, Sizes, blocks_of, cut_keys, cut_queries, join_keys, join_queries, needed_IJ
from models.attend.mask import Mask
from models.attend.plain import capped
from models.dropout import Drop


class Extras(NamedTuple):
    """What a score has beside query and key; None where it has not."""

    bias: Bias | None
    softcap: Number | None
    drop: Drop | None


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    bias: Bias | None = None,
    softcap: Number = math.inf,
    drop: Drop | None = None,
    block: int = 256,
) -> Float[Array, "B L H K"]:
    """As `models/attend/plain.py`, of which it holds `block` x `block` scores a head."""
    _, L, H, _ = query_BLHK.shape
    M = key_BMGK.shape[1]
    sizes = Sizes(L, M, H, min(block, L), min(block, M))
    extras = Extras(bias, None if off(softcap, math.inf) else softcap, drop)
    return _attend(sizes, query_BLHK, key_BMGK, value_BMGK, extras, mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(sizes: Sizes, query, key, value, extras: Extras, mask: Mask):
    return _forward(sizes, query, key, value, extras, mask)[0]


def _attend_forward(sizes, query, key, value, extras, mask):
    out, logsum = _forward(sizes, query, key, value, extras, mask)
    return out, (query, key, value, extras, mask, out, logsum)


def _forward(sizes: Sizes, query_BLHK, key_BMGK, value_BMGK, extras, mask):
    """The result, and of each query the logarithm of its sum, in blocks."""
    G = key_BMGK.shape[2]
    query = cut_queries(sizes, query_BLHK, G)
    key, value = cut_keys(sizes, key_BMGK), cut_keys(sizes, value_BMGK)
    queries, keys = blocks_of(sizes, mask)
    needed = needed_IJ(mask.rule, queries, keys)
    B, _, R, Q, K = query.shape[1:]

    def of_queries(query_BGRQK, block, needed_J):
        def add(carried, parts):
            key_BGCK, value_BGCK, other, needed = parts

            def more(carried):
                acc, top, total = carried
                score = _scores(query_BGRQK, key_BGCK, extras, block, other)
                visible = _visible(mask, block, other)
                score = jnp.where(visible, score, -jnp.inf)
                new_top = jnp.maximum(top, score.max(-1))
                safe_top = jnp.where(new_top == -jnp.inf, 0.0, new_top)
                weight = jnp.exp(score - safe_top[..., None])
                shrink = jnp.exp(top - safe_top)
                total = total * shrink + weight.sum(-1)
                weight = _dropped(weight, sizes, extras.drop, block, other)
                product = jnp.einsum(
                    "BGRQC,BGCK->BGRQK",
                    weight.astype(value_BGCK.dtype),
                    value_BGCK,
                    preferred_element_type=jnp.float32,
                )
                return acc * shrink[..., None] + product, new_top, total

            return jax.lax.cond(needed, more, lambda same: same, carried), None

        empty = jnp.zeros((B, G, R, Q), jnp.float32)
        start = (jnp.zeros((B, G, R, Q, K), jnp.float32), empty - jnp.inf, empty)
        (acc, top, total), _ = jax.lax.scan(add, start, (key, value, keys, needed_J))
        seen = total > 0
        total = jnp.where(seen, total, 1.0)
        out = (acc / total[..., None]).astype(query_BGRQK.dtype)
        return out, jnp.where(seen, top, 0.0) + jnp.log(total)

    out, logsum = jax.lax.map(lambda of: of_queries(*of), (query, queries, needed))
    return join_queries(sizes, out), logsum


def _attend_backward(sizes: Sizes, residuals, grad_BLHK):
    query_BLHK, key_BMGK, value_BMGK, extras, mask, out_BLHK, logsum = residuals
    G = key_BMGK.shape[2]
    query, grad = cut_queries(sizes, query_BLHK, G), cut_queries(sizes, grad_BLHK, G)
    delta_BLH1 = (out_BLHK.astype(jnp.float32) * grad_BLHK).sum(-1, keepdims=True)
    delta = cut_queries(sizes, delta_BLH1, G)
    key, value = cut_keys(sizes, key_BMGK), cut_keys(sizes, value_BMGK)
    queries, keys = blocks_of(sizes, mask)
    needed = needed_IJ(mask.rule, queries, keys)

    def of_queries(sums, parts):
        query_BGRQK, grad_BGRQK, delta_BGRQ1, logsum_BGRQ, block, needed_J = parts

        def add(carried, parts):
            key_BGCK, value_BGCK, other, needed, number = parts

            def more():
                score, pull = jax.vjp(
                    lambda *of: _scores(of[0], of[1], extras._replace(bias=of[2]),
                                        block, other),
                    query_BGRQK, key_BGCK, extras.bias,
                )
                visible = _visible(mask, block, other)
                weight = jnp.exp(score - logsum_BGRQ[..., None])
                weight = jnp.where(visible, weight, 0.0)
                dropped = _dropped(weight, sizes, extras.drop, block, other)
                value_grad = jnp.einsum(
                    "BGRQC,BGRQK->BGCK", dropped.astype(grad_BGRQK.dtype), grad_BGRQK,
                    preferred_element_type=jnp.float32,
                )
                weight_grad = jnp.einsum(
                    "BGRQK,BGCK->BGRQC", grad_BGRQK, value_BGCK,
                    preferred_element_type=jnp.float32,
                )
                weight_grad = _dropped(weight_grad, sizes, extras.drop, block, other)
                of_query, of_key, of_bias = pull(weight * (weight_grad - delta_BGRQ1))
                return _float32((of_query, of_key, value_grad, of_bias))

            found = jax.lax.cond(
                needed, more, lambda: jax.tree.map(
                    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(more)
                )
            )
            query_grad, key_grad, value_grad, bias_grad = carried
            carried = (
                query_grad + found[0],
                key_grad.at[number].add(found[1]),
                value_grad.at[number].add(found[2]),
                jax.tree.map(jnp.add, bias_grad, found[3]),
            )
            return carried, None

        numbers = jnp.arange(len(key))
        start = (jnp.zeros(query_BGRQK.shape, jnp.float32), *sums)
        carried, _ = jax.lax.scan(add, start, (key, value, keys, needed_J, numbers))
        return carried[1:], carried[0].astype(query_BGRQK.dtype)

    zeros = _float32(jax.tree.map(jnp.zeros_like, (key, value, extras.bias)))
    parts = (query, grad, delta, logsum, queries, needed)
    (key_grad, value_grad, bias_grad), query_grad = jax.lax.scan(
        of_queries, zeros, parts
    )
    return (
        join_queries(sizes, query_grad),
        join_keys(sizes, key_grad).astype(key_BMGK.dtype),
        join_keys(sizes, value_grad).astype(value_BMGK.dtype),
        Extras(bias_grad, jax.tree.map(jnp.zeros_like, extras.softcap), None),
        None,
    )


_attend.defvjp(_attend_forward, _attend_backward)


def _scores(query_BGRQK, key_BGCK, extras: Extras, block: Block, other: Block):
    """Of a pair of blocks, in float32."""
    score = jnp.einsum(
        "BGRQK,BGCK->BGRQC", query_BGRQK, key_BGCK, preferred_element_type=jnp.float32
    )
    if extras.softcap is not None:
        score = capped(score, extras.softcap)
    if extras.bias is not None:
        bias_HQC = extras.bias.at(block.row_Q, other.row_Q)
        score += bias_HQC.reshape(1, *score.shape[1:])
    return score


def _visible(mask: Mask, block: Block, other: Block) -> Bool[Array, "B 1 1 Q C"]:
    part = Mask(
        block.segment_BQ,
        block.place_BQ,
        other.segment_BQ,
        other.place_BQ,
        other.prefix_BQ,
        mask.rule,
    )
    return part.visible()[:, None, None]


def _dropped(x_BGRQC, sizes: Sizes, drop: Drop | None, block: Block, other: Block):
    """Dropout of the block's part of all B H L M."""
    if drop is None:
        return x_BGRQC
    R = x_BGRQC.shape[2]
    pairs = sizes.L * sizes.M
    strides = (sizes.H * pairs, R * pairs, pairs, sizes.M, 1)
    first = block.row_Q[0] * sizes.M + other.row_Q[0]
    return drop.of_part(x_BGRQC, strides, first)


def _float32(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
