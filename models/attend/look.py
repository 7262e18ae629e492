"""What attention is like: how large its scores get, how widely it spreads.

Source: Dehghani et al. 2023, https://arxiv.org/abs/2302.05442, section 2 (growing
scores); Zhai et al. 2023, https://arxiv.org/abs/2303.06296 (falling entropy).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Look(NamedTuple):
    """The largest score; the sum of the weights' entropies, in nats, of so many."""

    top: Float[Array, ""]
    entropy: Float[Array, ""]
    number: Float[Array, ""]


def look(
    score_BHLM: Float[Array, "B H L M"], visible_BLM: Bool[Array, "B L M"]
) -> Look:
    """Over all heads, of what the softmax is given, cap and bias and all.

    What may not be seen counts for nothing, and neither does a query that sees nothing.
    """
    see_BHLM = jnp.broadcast_to(visible_BLM[:, None], score_BHLM.shape)
    score_BHLM = jnp.where(see_BHLM, score_BHLM, -jnp.inf)
    log_BHLM = jax.nn.log_softmax(score_BHLM)
    # 0 log 0 is 0; a row of -inf has no logarithm, and no entropy.
    term_BHLM = jnp.where(see_BHLM, jnp.exp(log_BHLM) * log_BHLM, 0.0)
    term_BHLM = jnp.where(log_BHLM > -jnp.inf, term_BHLM, 0.0)
    number = see_BHLM.any(3).sum().astype(jnp.float32)
    return Look(score_BHLM.max(), -term_BHLM.sum(), number)
