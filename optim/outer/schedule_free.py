"""Schedule-Free: an average in place of a decay of the rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.numbers import off
from core.types import Number
from optim import walk


class ScheduleFreeState(NamedTuple):
    """`z` is where the chain walks; `b` is kept to tell the average from the two."""

    chain: PyTree
    z: PyTree
    b: Array
    rate_max: Array
    weight_sum: Array

    def averaged(self, params: PyTree) -> PyTree:
        """x, from y = (1 - b) z + b x."""

        def x(y, z):
            return ((y - (1 - self.b) * z) / self.b).astype(y.dtype)

        return jax.tree.map(x, params, self.z)


def schedule_free(
    *,
    b: Number = 0.9,
    rate_power: Number = 2.0,
    step_power: Number = 0.0,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The gradient is taken between where the chain walks and the average of its walk.

    y = (1 - b) z + b x           the parameters
    z <- z + step of the chain, at y
    x <- (1 - c) x + c z,  c = weight / sum of weights so far
    weight = (highest rate so far)^rate_power (step + 1)^step_power

    Evaluated is x. y is moved without x: y <- y + c (z - y) + (1 - b (1 - c)) step.
    Give it a constant schedule with warm-up, and a rule without momentum of its own:
    `b` is that. Schedule-Free AdamW is `adam` with b1 = 0 and the chain's decay;
    Schedule-Free SGD is `gradient_descent`. z is kept in float32 at least.
    `b` lies in (0, 1): at 0 the average could not be told from y and z.
    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682, algorithm 1, and the
    weights of https://github.com/facebookresearch/schedule_free (`weight_lr_power` and
    `r` there). optax's `schedule_free_*` weighs by the rate of the step after the one
    that it takes, which a warm-up shows.
    """

    def init(params: PyTree) -> ScheduleFreeState:
        zero, z = jnp.zeros([], jnp.float32), walk.widened(params)
        kept = jnp.array(b, jnp.float32)
        return ScheduleFreeState(tx.init(params), z, kept, zero, jnp.copy(zero))

    def update(updates, state, params=None, **extra):
        updates, chain = tx.update(updates, state.chain, params, **extra)
        rate_max = jnp.maximum(state.rate_max, extra["rate"])
        weight = rate_max**rate_power
        if not off(step_power, 0.0):
            weight *= jnp.asarray(extra["step"] + 1, jnp.float32) ** step_power
        weight_sum = state.weight_sum + weight
        c = jnp.where(weight_sum > 0, weight / weight_sum, 0.0)
        moves = jax.tree.map(
            lambda u, y, z: c * (z - y) + (1 - b * (1 - c)) * u,
            updates,
            params,
            state.z,
        )
        z = jax.tree.map(jnp.add, state.z, updates)
        kept = jnp.array(b, jnp.float32)
        return moves, ScheduleFreeState(chain, z, kept, rate_max, weight_sum)

    return optax.GradientTransformationExtraArgs(init, update)
