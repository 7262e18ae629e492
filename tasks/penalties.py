"""What the objective of a token has beside plain cross-entropy.

Source: label smoothing: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section
7; z-loss: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5;
confidence penalty: Pereyra et al. 2017, https://arxiv.org/abs/1701.06548, equation 2,
without its threshold; focal: Lin et al. 2017, https://arxiv.org/abs/1708.02002,
equation 4, a softmax for their sigmoid; poly: Leng et al. 2022,
https://arxiv.org/abs/2204.12511, Poly-1; R-Drop: Liang et al. 2021,
https://arxiv.org/abs/2106.14448, equation 4.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.numbers import off
from core.types import Number

TINY = 1e-30  # keeps the derivatives of focal finite where p_t rounds to 1


class Penalties(NamedTuple):
    """With p the softmax of the logits z, t the target, V words and s the smoothing,

        nats      = -log p_t
        smoothed  = (1 - s) nats + s mean(-log p)
        missed    = 1 - (1 - s) p_t - s / V
        objective = (1 - p_t)^focal (smoothed + poly missed)
                  + z_loss logsumexp(z)^2 - confidence_penalty entropy(p)

    None is a number that is off. With `r_drop` there are two forward passes, p and q,
    of other masks of dropout; all of the above is the mean of both, and

        objective = ... + r_drop / 4 (KL(p || q) + KL(q || p)),

    which is half of the paper's equation 4, a sum over both: `r_drop` is its alpha. The
    authors' page halves the cross-entropy alone: its alpha is half of this.
    """

    smoothing: Number | None = None
    z_loss: Number | None = None
    confidence_penalty: Number | None = None
    focal: Number | None = None
    poly: Number | None = None
    r_drop: Number | None = None

    @classmethod
    def of(cls, **numbers: Number) -> "Penalties":
        """Those that are not 0.0; what is written as 0.0 leaves no trace."""
        given = {k: None if off(n, 0.0) else n for k, n in numbers.items()}
        return cls(**given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """The words of a task that make its objective: see `Penalties`.

    They are of training alone; `loss` is plain cross-entropy always.
    """

    smoothing: Number = 0.0
    z_loss: Number = 0.0
    confidence_penalty: Number = 0.0
    focal: Number = 0.0
    poly: Number = 0.0
    r_drop: Number = 0.0
    chunk: int = 0  # places of a row whose logits are in memory at once; 0: all

    @property
    def penalties(self) -> Penalties:
        """Those that are on."""
        return Penalties.of(**{k: getattr(self, k) for k in Penalties._fields})


class Rows(NamedTuple):
    """Of every token."""

    objective_BL: Float[Array, "B L"]
    nats_BL: Float[Array, "B L"]
    hit_BL: Float[Array, "B L"]


def rows_of(
    logit_BLV: Float[Array, "B L V"],
    target_BL: Int[Array, "B L"],
    penalties: Penalties,
) -> Rows:
    """Objective and cross-entropy, and whether the target ranks first."""
    top_BL1 = jax.lax.stop_gradient(logit_BLV.max(-1, keepdims=True))
    shifted_BLV = logit_BLV - top_BL1
    V = logit_BLV.shape[-1]
    id_11V = jnp.arange(V)[None, None]
    is_target_BLV = id_11V == target_BL[..., None]  # cheaper than a scatter
    own_BL = jnp.where(is_target_BLV, shifted_BLV, 0).sum(-1)
    log_sum_BL = jnp.log(jnp.exp(shifted_BLV).sum(-1))
    nats_BL = objective_BL = log_sum_BL - own_BL
    smoothing, z_loss, confidence_penalty, focal, poly, _ = penalties
    if smoothing is not None:
        objective_BL += smoothing * (own_BL - shifted_BLV.mean(-1))
    if poly is not None:
        missed_BL = -jnp.expm1(-nats_BL)
        if smoothing is not None:
            missed_BL += smoothing * (jnp.exp(-nats_BL) - 1 / V)
        objective_BL += poly * missed_BL
    if focal is not None:
        rest_BL = jnp.maximum(-jnp.expm1(-nats_BL), TINY)
        objective_BL *= jnp.exp(focal * jnp.log(rest_BL))
    if z_loss is not None:
        objective_BL += z_loss * (log_sum_BL + top_BL1[..., 0]) ** 2
    if confidence_penalty is not None:
        p_BLV = jnp.exp(shifted_BLV - log_sum_BL[..., None])
        entropy_BL = log_sum_BL - (p_BLV * shifted_BLV).sum(-1)
        objective_BL -= confidence_penalty * entropy_BL
    return Rows(objective_BL, nats_BL, (own_BL >= 0).astype(jnp.float32))


def divergence(
    logit_BLV: Float[Array, "B L V"], other_BLV: Float[Array, "B L V"]
) -> Float[Array, "B L"]:
    """KL(p || q) + KL(q || p) = sum (p - q) (log p - log q), of softmaxes p and q.

    >>> z = jnp.zeros((1, 1, 2))
    >>> divergence(z, z).item(), round(divergence(z, z.at[..., 0].set(1)).item(), 4)
    (0.0, 0.2311)
    """
    log_p_BLV, log_q_BLV = jax.nn.log_softmax(logit_BLV), jax.nn.log_softmax(other_BLV)
    p_BLV, q_BLV = jnp.exp(log_p_BLV), jnp.exp(log_q_BLV)
    return ((p_BLV - q_BLV) * (log_p_BLV - log_q_BLV)).sum(-1)
