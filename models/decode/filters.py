"""Which tokens may be drawn: a distribution over the vocabulary without its tail.

Sources: top-k, Fan et al. 2018, https://arxiv.org/abs/1805.04833, section 5.4; top-p,
Holtzman et al. 2020, https://arxiv.org/abs/1904.09751, section 3.1; min-p, Nguyen et
al. 2024, https://arxiv.org/abs/2407.01082, section 3.2; the penalty, Keskar et al. 2019
(CTRL), https://arxiv.org/abs/1909.05858, section 4.1.

It departs from CTRL as Hugging Face does: a negative logit is multiplied by the
penalty, for dividing would raise it. The order is theirs, too: penalty, temperature,
top-k, top-p, min-p, each of what the one before has left.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.numbers import off
from core.types import Number


def penalized(
    logit_BV: Float[Array, "B V"], seen_BV: Bool[Array, "B V"], penalty: Number
) -> Float[Array, "B V"]:
    """Tokens that were seen made less likely, for a penalty above 1.

    >>> import jax.numpy as jnp
    >>> penalized(jnp.array([[2.0, -2.0]]), jnp.array([[True, True]]), 2.0).tolist()
    [[1.0, -4.0]]
    """
    lower_BV = jnp.where(logit_BV > 0, logit_BV / penalty, logit_BV * penalty)
    return jnp.where(seen_BV, lower_BV, logit_BV)


def kept(
    logit_BV: Float[Array, "B V"], *, top_k: int, top_p: Number, min_p: Number
) -> Float[Array, "B V"]:
    """The logits, -inf where a token may not be drawn; the likeliest always may.

    `top_k`: only the k likeliest, 0 for all. `top_p`: only the fewest of them, the
    likeliest first, whose shares add up to p. `min_p`: only those of at least this
    share of the likeliest's. Tokens as likely as the last one kept are kept, too.
    """
    floor_B = jnp.full(len(logit_BV), -jnp.inf)
    if top_k or not off(top_p, 1.0):
        V = logit_BV.shape[1]
        most_BV, _ = jax.lax.top_k(logit_BV, min(top_k or V, V))
        floor_B = most_BV[:, -1]
        if not off(top_p, 1.0):
            floor_B = _nucleus(most_BV, top_p)
    if not off(min_p, 0.0):
        floor_B = jnp.maximum(floor_B, logit_BV.max(1) + jnp.log(min_p))
    return jnp.where(logit_BV >= floor_B[:, None], logit_BV, -jnp.inf)


def _nucleus(most_BV, top_p):
    """The least logit of the nucleus, of logits that fall."""
    share_BV = jax.nn.softmax(most_BV)
    before_BV = jnp.cumsum(share_BV, axis=1) - share_BV
    inside_BV = (before_BV < top_p) | (jnp.arange(most_BV.shape[1]) == 0)[None]
    return jnp.where(inside_BV, most_BV, jnp.inf).min(1)
