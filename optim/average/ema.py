"""An exponential moving average of the parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.types import Number
from optim import walk


class EmaState(NamedTuple):
    """`weight` is the sum of those that the mean is made of, 1 at rest."""

    chain: PyTree
    mean: PyTree
    weight: Array

    def averaged(self, params: PyTree) -> PyTree:
        """The mean."""
        return jax.tree.map(lambda m, w: m.astype(w.dtype), self.mean, params)


def ema(
    *,
    decay: Number = 0.999,
    start_step: int = 0,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """mean <- mean + c (w - mean),  c = (1 - decay) / (1 - decay^t)

    The parameters after the step `start_step` and all later ones, each with `decay`
    times the weight of the next; before, the parameters themselves. Corrected for the
    bias as in Adam, t counting the steps averaged: all weights sum to one and none is
    left on the first parameters, as where the mean begins there (PyTorch, timm), which
    differs by decay^t. Kept in float32 at least. `decay` lies in [0, 1).
    Source: Polyak & Juditsky 1992, https://doi.org/10.1137/0330046, whose mean is
    uniform; the correction is that of Kingma & Ba 2015, section 3.
    """

    def init(params: PyTree) -> EmaState:
        zero = jnp.zeros([], jnp.float32)
        return EmaState(tx.init(params), walk.widened(params), zero)

    def update(updates, state, params=None, **extra):
        updates, chain = tx.update(updates, state.chain, params, **extra)
        on = jnp.asarray(extra["step"] >= start_step)
        weight = jnp.where(on, decay * state.weight + (1 - decay), 0.0)
        c = jnp.where(on, (1 - decay) / weight, 1.0)
        mean = walk.mixed(state.mean, walk.landed(params, updates), c)
        return updates, EmaState(chain, mean, weight)

    return optax.GradientTransformationExtraArgs(init, update)
