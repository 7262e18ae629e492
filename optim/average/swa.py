"""Stochastic weight averaging: the mean of points along the end of a run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from optim import walk


class SwaState(NamedTuple):
    """The mean of `num_points` points, and how many periods have had theirs."""

    chain: PyTree
    mean: PyTree
    num_points: Array
    periods: Array

    def averaged(self, params: PyTree) -> PyTree:
        """The mean; the parameters where there is no point yet."""
        return jax.tree.map(
            lambda m, w: jnp.where(self.num_points > 0, m.astype(w.dtype), w),
            self.mean,
            params,
        )


def swa(
    *,
    start_step: int,
    every_steps: int = 1,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """mean <- mean + (w - mean) / n  at the n-th point.

    Points are the parameters `every_steps`, 2 `every_steps` ... steps after
    `start_step` steps; the paper counts the start itself among them, PyTorch's example
    does not. The rate there is constant or cyclic, which is the schedule's to do. Kept
    in float32 at least.
    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, algorithm 1.
    """

    def init(params: PyTree) -> SwaState:
        mean = walk.widened(params)
        return SwaState(tx.init(params), mean, jnp.int32(0), jnp.int32(0))

    def update(updates, state, params=None, **extra):
        updates, chain = tx.update(updates, state.chain, params, **extra)
        periods = walk.periods(extra["step"], every_steps, start_step)
        due = periods > state.periods
        num_points = state.num_points + due
        c = jnp.where(due, 1 / jnp.maximum(num_points, 1), 0.0)
        mean = walk.mixed(state.mean, walk.landed(params, updates), c)
        return updates, SwaState(chain, mean, num_points, periods)

    return optax.GradientTransformationExtraArgs(init, update)
