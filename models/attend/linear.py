"""Linear attention: sums over the past in place of scores, O(n) time and memory.

Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equations 4 to 6
and 16 to 20; chunks: Hua et al. 2022, https://arxiv.org/abs/2202.10447, section 3.2.
It departs from the first in that rows hold several texts, and none sees another's sums;
and in that sums are kept relative to their greatest term, as in a running softmax.

Letters beyond STYLE.md's: `R` heads of a group; `Q` queries of a chunk, `C` its keys;
`I` chunks; `Z` features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.attend.blocks import (
    Block,
    Sizes,
    blocks_of,
    cut_keys,
    cut_queries,
    join_queries,
    visible,
)
from models.attend.features import Features
from models.attend.mask import Mask, Rule

CHUNK = 128


class Sums(NamedTuple):
    """Over the tokens of one text so far: phi(k) v^T, and phi(k), its last column.

    Relative to e to `top`.
    """

    segment_B: Int[Array, "B"]
    sum_BGZK: Float[Array, "B G Z _"]
    top_BG: Float[Array, "B G"]


class Chunk(NamedTuple):
    """Queries, keys and values side by side; values have a column of ones."""

    query_BGRQZ: Float[Array, "*I B G R Q Z"]
    key_BGCZ: Float[Array, "*I B G C Z"]
    log_BGC1: Float[Array, "*I B G C 1"]
    value_BGCK: Float[Array, "*I B G C _"]
    queries: Block
    keys: Block


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    features: Features,
    chunk: int = CHUNK,
) -> Float[Array, "B L H K"]:
    """sum_j phi(q) . phi(k_j) v_j / sum_j phi(q) . phi(k_j) over what q may see.

    `chunk` 1 is the recurrent form. Sums are float32. A query that may see nothing gets
    zeros.

    Raises:
      ValueError: windows, blocks or a prefix, or keys of another text.
    """
    _check(mask)
    _, L, H, K = query_BLHK.shape
    sizes = Sizes(L, L, H, min(chunk, L), min(chunk, L))
    queries, keys = features.of_query(query_BLHK), features.of_key(key_BMGK)
    value_BMGK = jnp.pad(value_BMGK, ((0, 0),) * 3 + ((0, 1),), constant_values=1)
    chunks = Chunk(
        cut_queries(sizes, queries.feature, key_BMGK.shape[2]),
        cut_keys(sizes, keys.feature),
        cut_keys(sizes, keys.log[..., None]),
        cut_keys(sizes, value_BMGK.astype(jnp.float32)),
        *blocks_of(sizes, mask),
    )
    mixed, top = _scan(chunks, back=False)
    if not mask.rule.causal:
        ahead, ahead_top = _scan(chunks, back=True)
        both = jnp.maximum(top, ahead_top)
        mixed = _scaled(mixed, top, both) + _scaled(ahead, ahead_top, both)
    mixed_BLHK = join_queries(sizes, mixed)
    total_BLH1 = mixed_BLHK[..., K:]
    out_BLHK = mixed_BLHK[..., :K] / jnp.where(total_BLH1 > 0, total_BLH1, 1.0)
    return out_BLHK.astype(query_BLHK.dtype)


def _check(mask: Mask) -> None:
    if mask.rule != Rule(mask.rule.causal) or mask.prefix_BM is not None:
        raise ValueError(
            "model.attention='linear' and 'random_features' take no window, no block "
            "and no prefix: what they have summed up shows all of the past."
        )
    if mask.segment_BL.shape != mask.memory_segment_BM.shape:
        raise ValueError(
            "model.attention='linear' and 'random_features' are self-attention: there "
            f"are {mask.segment_BL.shape[1]} queries and "
            f"{mask.memory_segment_BM.shape[1]} keys."
        )


def _scaled(mixed_IBGRQK, top_IBGQ, new_IBGQ):
    """From relative to one top to relative to a higher one."""
    return mixed_IBGRQK * _ratio(top_IBGQ, new_IBGQ)[:, :, :, None, :, None]


def _ratio(top, new):
    """e to the one over e to the other; 0 of a top of nothing."""
    return jnp.exp(top - jnp.where(new == -jnp.inf, 0.0, new))


def _scan(chunks: Chunk, *, back: bool):
    """What queries find in what is before them, or `back`: strictly after them."""
    _, B, G, C, Z = chunks.key_BGCZ.shape
    K = chunks.value_BGCK.shape[-1]
    start = Sums(
        jnp.zeros(B, jnp.int32),
        jnp.zeros((B, G, Z, K), jnp.float32),
        jnp.full((B, G), -jnp.inf),
    )
    place_C = jnp.arange(C)
    query_Q1, key_1C = place_C[:, None], place_C[None]
    order_QC = query_Q1 < key_1C if back else query_Q1 >= key_1C

    @jax.checkpoint
    def step(sums: Sums, chunk: Chunk):
        return _with(sums, chunk, place_C, back), _found(sums, chunk, order_QC)

    return jax.lax.scan(step, start, chunks, reverse=back)[1]


def _found(sums: Sums, chunk: Chunk, order_QC):
    """Of each query, among the sums so far and the tokens of its own chunk."""
    see_BQC = visible(Rule(), chunk.queries, chunk.keys) & order_QC[None]
    log_BGC = chunk.log_BGC1[..., 0]
    log_BGQC = jnp.where(see_BQC[:, None], log_BGC[:, :, None], -jnp.inf)
    same_BQ = chunk.queries.segment_BQ == sums.segment_B[:, None]
    past_BGQ = jnp.where(same_BQ[:, None], sums.top_BG[..., None], -jnp.inf)
    top_BGQ = jnp.maximum(past_BGQ, log_BGQC.max(-1))
    weight_BGRQC = jnp.einsum("BGRQZ,BGCZ->BGRQC", chunk.query_BGRQZ, chunk.key_BGCZ)
    weight_BGRQC *= _ratio(log_BGQC, top_BGQ[..., None])[:, :, None]
    mixed_BGRQK = jnp.einsum("BGRQC,BGCK->BGRQK", weight_BGRQC, chunk.value_BGCK)
    past_BGRQK = jnp.einsum("BGRQZ,BGZK->BGRQK", chunk.query_BGRQZ, sums.sum_BGZK)
    mixed_BGRQK += past_BGRQK * _ratio(past_BGQ, top_BGQ)[:, :, None, :, None]
    return mixed_BGRQK, top_BGQ


def _with(sums: Sums, chunk: Chunk, place_C, back: bool) -> Sums:
    """The sums with the chunk's tokens, of the text that goes on after it."""
    segment_BC = chunk.keys.segment_BQ
    order_C = -place_C if back else place_C
    last_B1 = jnp.where(segment_BC > 0, order_C[None], -len(place_C)).argmax(1)[:, None]
    segment_B = jnp.take_along_axis(segment_BC, last_B1, axis=1)[:, 0]
    adds_BC = (segment_BC == segment_B[:, None]) & (segment_BC > 0)
    log_BGC = jnp.where(adds_BC[:, None], chunk.log_BGC1[..., 0], -jnp.inf)
    stays_B1 = (segment_B == sums.segment_B)[:, None]
    past_BG = jnp.where(stays_B1, sums.top_BG, -jnp.inf)
    top_BG = jnp.maximum(past_BG, log_BGC.max(-1))
    key_BGCZ = chunk.key_BGCZ * _ratio(log_BGC, top_BG[..., None])[..., None]
    new_BGZK = jnp.einsum("BGCZ,BGCK->BGZK", key_BGCZ, chunk.value_BGCK)
    past_BGZK = sums.sum_BGZK * _ratio(past_BG, top_BG)[..., None, None]
    return Sums(segment_B, past_BGZK + new_BGZK, top_BG)
