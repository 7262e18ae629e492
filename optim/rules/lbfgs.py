"""L-BFGS, without a line search."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree


def lbfgs(*, num_pairs: int = 10) -> optax.GradientTransformationExtraArgs:
    """u <- P g, with P the inverse Hessian that the last steps and gradients speak for.

    P is that of Nocedal's two loops over `num_pairs` pairs of differences, s of the
    parameters and y of the gradients, all parameters together; it starts from
    (s y / y y) I, and the first update is g / max(1, |g|). It costs 2 `num_pairs`
    copies of the parameters. The rate is the length of a Newton step: 1 where the
    objective is near to a quadratic.
    Only for gradients of one and the same objective: a full batch, no dropout, no
    clipping. Of two batches, y is noise, which P multiplies by. Nor does a line search
    keep s y positive here: where u would not descend, it is g / max(1, |g|) instead.
    Source: Liu & Nocedal 1989, https://doi.org/10.1007/BF01589116; Nocedal & Wright
    2006, https://doi.org/10.1007/978-0-387-40065-5, algorithm 7.4.
    """
    tx = optax.scale_by_lbfgs(memory_size=num_pairs)

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **_: Any):
        turned, state = tx.update(updates, state, params)
        descends = jnp.asarray(optax.tree.vdot(turned, updates)) > 0
        share = 1 / jnp.maximum(1.0, optax.tree.norm(updates))
        turned = jax.tree.map(
            lambda u, g: jnp.where(descends, u, share * g), turned, updates
        )
        return turned, state

    return optax.GradientTransformationExtraArgs(tx.init, update)


def check(*, num_pairs: int = 1, **_: Any) -> None:
    """Raises ValueError unless something is remembered."""
    if num_pairs < 1:
        raise ValueError(f"num_pairs={num_pairs} must be at least 1.")
