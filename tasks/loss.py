"""Cross-entropy from logits, without one-hot targets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from core.numbers import off
from core.types import Number


class TokenLoss(NamedTuple):
    """Of every token: nats, those against smoothed targets, and if it ranks first."""

    nats_BL: Float[Array, "B L"]
    smoothed_BL: Float[Array, "B L"]
    hit_BL: Bool[Array, "B L"]


def cross_entropy(
    logit_BLV: Float[Array, "B L V"], target_BL: Int[Array, "B L"], smoothing: Number
) -> TokenLoss:
    """nats = logsumexp(z) - z_t;  smoothed = nats + smoothing (z_t - mean(z)).

    That is the cross-entropy against (1 - smoothing) one_hot + smoothing / V (Szegedy
    et al. 2015, https://arxiv.org/abs/1512.00567, section 7). Smoothing of 0.0 leaves
    no trace.
    """
    top_BL1 = jax.lax.stop_gradient(logit_BLV.max(-1, keepdims=True))
    shifted_BLV = logit_BLV - top_BL1
    V = logit_BLV.shape[-1]
    id_11V = jnp.arange(V)[None, None]
    is_target_BLV = id_11V == target_BL[..., None]  # cheaper than a scatter
    own_BL = jnp.where(is_target_BLV, shifted_BLV, 0).sum(-1)
    nats_BL = jnp.log(jnp.exp(shifted_BLV).sum(-1)) - own_BL
    smoothed_BL = nats_BL
    if not off(smoothing, 0.0):
        smoothed_BL = nats_BL + smoothing * (own_BL - shifted_BLV.mean(-1))
    return TokenLoss(nats_BL, smoothed_BL, own_BL >= 0)
