"""MARS: Adam on gradients whose change since the last step is put forward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from core.types import Number
from optim.layers import per_layer


class Previous(NamedTuple):
    """What the next step compares with: the gradients before, or the parameters."""

    step: PyTree


def mars(
    *,
    b1: Number = 0.95,
    b2: Number = 0.99,
    eps: Number = 1e-8,
    gamma: Number = 0.025,
    exact: bool = False,
) -> optax.GradientTransformation:
    """u <- Adam's direction, with c / max(1, |c|) for its gradient, tensor by tensor:

    c = g + gamma b1 / (1 - b1) (g - g_before)

    |c| is over one tensor of one layer. By default g_before is the gradient of the step
    before, on its own batch, and zero at first, as in the authors' code. `exact` takes
    it on this batch at the parameters of the step before, with `grad_fn`: the noise of
    the batch cancels in the difference, at the price of a second gradient; at first the
    difference is zero. `grad_fn` is of the objective alone: leave `optim.clip_norm`,
    `l1` and `l2` off there, or they are part of the difference.
    `b1` and `b2` lie in [0, 1), `gamma` in [0, inf); at 0 it is Adam, clipped.
    Vectors get the same, where the authors' code has them under AdamW unless told.
    Source: Yuan et al. 2024, https://arxiv.org/abs/2411.10438, algorithms 1 and 2, with
    gradient clipping as there; https://github.com/AGI-Arena/MARS.
    """
    return optax.chain(
        _put_forward(gamma * b1 / (1 - b1), exact=exact),
        per_layer(optax.stateless_with_tree_map(_into_ball)),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
    )


def _put_forward(
    share: Number, *, exact: bool
) -> optax.GradientTransformationExtraArgs:
    """g <- g + share (g - g_before)."""

    def init(params):
        return Previous(jax.tree.map(jnp.copy if exact else jnp.zeros_like, params))

    def update(updates, state, params=None, **extra):
        before = extra["grad_fn"](state.step) if exact else state.step
        forward = jax.tree.map(lambda g, b: g + share * (g - b), updates, before)
        return forward, Previous(params if exact else updates)

    return optax.GradientTransformationExtraArgs(init, update)


def _into_ball(c, w):
    """c / max(1, |c|)."""
    del w
    return c / jnp.maximum(1.0, jnp.linalg.norm(jnp.ravel(c.astype(jnp.float32))))
