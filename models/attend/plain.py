"""Attention with all of its scores in memory: the reference, and best at short length.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1; groups:
Ainslie et al. 2023, https://arxiv.org/abs/2305.13245.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.numbers import off
from core.types import Number
from models.attend.bias import Bias
from models.attend.mask import Mask
from models.dropout import Drop
from models.once import once

_visible = once(Mask.visible)


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    bias: Bias | None = None,
    softcap: Number = math.inf,
    drop: Drop | None = None,
) -> Float[Array, "B L H K"]:
    """softmax(capped(q k^T) + bias) v under a mask; queries are scaled already.

    Scores and softmax are float32 whatever the inputs are. A query that may see nothing
    gets zeros.
    """
    key_BMHK, value_BMHK = (
        jnp.repeat(x, query_BLHK.shape[2] // x.shape[2], axis=2)
        if query_BLHK.shape[2] != x.shape[2]
        else x
        for x in (key_BMGK, value_BMGK)
    )
    score_BHLM = jnp.einsum(
        "BLHK,BMHK->BHLM", query_BLHK, key_BMHK, preferred_element_type=jnp.float32
    )
    score_BHLM = capped(score_BHLM, softcap)
    if bias is not None:
        L, M = score_BHLM.shape[2:]
        score_BHLM += bias.at(jnp.arange(L), jnp.arange(M))[None]
    weight_BHLM = jax.nn.softmax(score_BHLM, where=_visible(mask)[:, None])
    if drop is not None:
        weight_BHLM = drop(weight_BHLM)
    weight_BHLM = weight_BHLM.astype(query_BLHK.dtype)
    return jnp.einsum("BHLM,BMHK->BLHK", weight_BHLM, value_BMHK)


def capped(score: Float[Array, "*axes"], softcap: Number) -> Float[Array, "*axes"]:
    """cap tanh(x / cap), which stays below the cap; inf leaves no trace.

    Source: Gemma Team 2024, https://arxiv.org/abs/2408.00118, section 2.
    """
    if off(softcap, math.inf):
        return score
    return softcap * jnp.tanh(score / softcap)
