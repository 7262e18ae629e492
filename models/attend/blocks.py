"""Rows cut into blocks, and which pairs of blocks have anything to see.

Letters beyond STYLE.md's: `R` heads of a group; `Q` queries of a block, `C` keys of
one; `I` and `J` blocks of queries and keys.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.attend.mask import Mask, Rule

NEVER = 2**30  # above every number of a token


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of the whole and of its blocks: what shapes the program."""

    L: int
    M: int
    H: int
    Q: int
    C: int


class Block(NamedTuple):
    """Tokens of one block, or of all of them, under a leading axis of blocks.

    Their numbers in the mask, and their places in the row.
    """

    segment_BQ: Int[Array, "*I B Q"]
    place_BQ: Int[Array, "*I B Q"]
    prefix_BQ: Bool[Array, "*I B Q"] | None
    row_Q: Int[Array, "*I Q"]


def cut_queries(
    sizes: Sizes, x_BLHK: Float[Array, "B L H K"], G: int
) -> Float[Array, "I B G R Q K"]:
    """Blocks of queries, by groups of heads; the last one filled up with zeros."""
    B, L, H, K = x_BLHK.shape
    I = -(-L // sizes.Q)
    x_BLHK = jnp.pad(x_BLHK, ((0, 0), (0, I * sizes.Q - L), (0, 0), (0, 0)))
    x_BIQGRK = x_BLHK.reshape(B, I, sizes.Q, G, H // G, K)
    return jnp.einsum("BIQGRK->IBGRQK", x_BIQGRK)


def join_queries(
    sizes: Sizes, x_IBGRQK: Float[Array, "I B G R Q K"]
) -> Float[Array, "B L H K"]:
    """The inverse of `cut_queries`."""
    I, B, G, R, Q, K = x_IBGRQK.shape
    x_BLHK = jnp.einsum("IBGRQK->BIQGRK", x_IBGRQK).reshape(B, I * Q, G * R, K)
    return x_BLHK[:, : sizes.L]


def cut_keys(
    sizes: Sizes, x_BMGK: Float[Array, "B M G K"]
) -> Float[Array, "J B G C K"]:
    """Blocks of keys or values."""
    B, M, G, K = x_BMGK.shape
    J = -(-M // sizes.C)
    x_BMGK = jnp.pad(x_BMGK, ((0, 0), (0, J * sizes.C - M), (0, 0), (0, 0)))
    x_BJCGK = x_BMGK.reshape(B, J, sizes.C, G, K)
    return jnp.einsum("BJCGK->JBGCK", x_BJCGK)


def join_keys(
    sizes: Sizes, x_JBGCK: Float[Array, "J B G C K"]
) -> Float[Array, "B M G K"]:
    """The inverse of `cut_keys`."""
    J, B, G, C, K = x_JBGCK.shape
    x_BMGK = jnp.einsum("JBGCK->BJCGK", x_JBGCK).reshape(B, J * C, G, K)
    return x_BMGK[:, : sizes.M]


def blocks_of(sizes: Sizes, mask: Mask) -> tuple[Block, Block]:
    """Those of the queries and those of the keys; what fills up is padding."""

    def cut(x_BL, size: int):
        B, L = x_BL.shape
        count = -(-L // size)
        x_BL = jnp.pad(x_BL, ((0, 0), (0, count * size - L)))
        x_BIQ = x_BL.reshape(B, count, size)
        return jnp.einsum("BIQ->IBQ", x_BIQ)

    def rows(length: int, size: int):
        count = -(-length // size)
        return jnp.arange(count * size).reshape(count, size)

    prefix = None if mask.prefix_BM is None else cut(mask.prefix_BM, sizes.C)
    queries = Block(
        cut(mask.segment_BL, sizes.Q),
        cut(mask.place_BL, sizes.Q),
        None,
        rows(sizes.L, sizes.Q),
    )
    keys = Block(
        cut(mask.memory_segment_BM, sizes.C),
        cut(mask.memory_place_BM, sizes.C),
        prefix,
        rows(sizes.M, sizes.C),
    )
    return queries, keys


def needed_IJ(rule: Rule, queries: Block, keys: Block) -> Bool[Array, "I J"]:
    """False where no query of a block sees a key of another; True is no promise.

    A segment's tokens lie side by side and in order, so those of a block are an
    interval, and order and nearness in the row are those in the segment.
    """
    common_IJB = _meet(
        *(_ends(block, block.segment_BQ) for block in (queries, keys)), reach=1
    )
    near_IJB = jnp.ones_like(common_IJB)
    if rule.window:
        rows = (_ends(block, block.row_Q[:, None]) for block in (queries, keys))
        near_IJB &= _meet(*rows, reach=rule.window)
    if rule.block:  # a block of the rule is known by the row where it begins
        near_IJB &= _meet(
            *(
                _ends(block, block.row_Q[:, None] - block.place_BQ % rule.block)
                for block in (queries, keys)
            ),
            reach=1,
        )
    if rule.num_global:
        is_global_IB, is_global_JB = (
            ((block.place_BQ < rule.num_global) & (block.segment_BQ > 0)).any(-1)
            for block in (queries, keys)
        )
        near_IJB |= is_global_IB[:, None] | is_global_JB[None]
    if rule.causal:
        past_IJB = (keys.row_Q[None, :, 0] <= queries.row_Q[:, -1:])[..., None]
        if keys.prefix_BQ is not None:
            past_IJB |= keys.prefix_BQ.any(-1)[None]
        near_IJB &= past_IJB
    return (common_IJB & near_IJB).any(-1)


def _ends(block: Block, number_IBQ: Int[Array, "I _ Q"]):
    """The least and the greatest number of each block's tokens, without padding."""
    real_IBQ = block.segment_BQ > 0
    low_IB = jnp.where(real_IBQ, number_IBQ, NEVER).min(-1)
    return low_IB, jnp.where(real_IBQ, number_IBQ, -NEVER).max(-1)


def _meet(ends, other_ends, *, reach: int) -> Bool[Array, "I J B"]:
    """True where some number of one block could be less than `reach` from another's."""
    (low_IB, high_IB), (low_JB, high_JB) = ends, other_ends
    return (low_JB[None] < high_IB[:, None] + reach) & (
        low_IB[:, None] < high_JB[None] + reach
    )


def visible(rule: Rule, block: Block, other: Block) -> Bool[Array, "B Q C"]:
    """True where a query of a block may look at a key of another."""
    return Mask(
        block.segment_BQ,
        block.place_BQ,
        other.segment_BQ,
        other.place_BQ,
        other.prefix_BQ,
        rule,
    ).visible()
