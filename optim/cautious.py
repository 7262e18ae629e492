"""Steps and decay only where they agree with the gradient, or with each other."""

import jax
import jax.numpy as jnp
import optax

from core.types import Number
from optim.layers import per_layer
from optim.links import DECAYED


def cautious(
    rule: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """u <- u m / mean(m), where m is 1 where u and the gradient have one sign, else 0.

    So <u, g> >= 0, and a rule that always agrees is left as it is. The mean is of each
    tensor of each layer, and at least 0.001. Departs from algorithm 1 of the paper,
    which divides by (sum(m) + 1) / n; this is what its authors' code does.
    Source: Liang et al. 2024, https://arxiv.org/abs/2411.16085.
    """
    masked = per_layer(optax.stateless(_agreeing))

    def update(updates, state, params=None, **extra):
        new, state = rule.update(updates, state, params, **extra)
        return masked.update(new, masked.init(new), updates)[0], state

    return optax.GradientTransformationExtraArgs(rule.init, update)


def add_agreeing(share: Number) -> optax.GradientTransformation:
    """u <- u + share w on kernels, but where u and w have opposite signs.

    There the step goes away from zero. `share` lies in [0, inf).
    Source: Chen et al. 2025, https://arxiv.org/abs/2510.12402, algorithm 1.
    """

    def add(updates, params):
        return jax.tree.map(
            lambda u, w: u + share * jnp.where(u * w >= 0, w, 0.0), updates, params
        )

    return optax.masked(optax.stateless(add), DECAYED)


def _agreeing(u, g):
    mask = (u * g > 0).astype(u.dtype)
    return u * mask / jnp.maximum(mask.mean(), 1e-3).astype(u.dtype)
