"""Latest weight averaging: the mean of the last few snapshots. Letters: K of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from optim import walk


class LawaState(NamedTuple):
    """Snapshots in a ring, on a leading axis of each leaf, and how many were taken."""

    chain: PyTree
    snapshots: PyTree
    num_taken: Array
    periods: Array

    def averaged(self, params: PyTree) -> PyTree:
        """The mean of those there are; the parameters where there is none yet."""

        def mean(snapshots, w):
            filled = jnp.arange(len(snapshots)) < self.num_taken
            filled = filled.reshape(-1, *(1 for _ in w.shape))
            wide = jnp.promote_types(w.dtype, jnp.float32)
            found = jnp.mean(snapshots, axis=0, dtype=wide, where=filled)
            return jnp.where(self.num_taken > 0, found.astype(w.dtype), w)

        return jax.tree.map(mean, self.snapshots, params)


def lawa(
    *,
    every_steps: int,
    num_snapshots: int = 6,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The uniform mean of the last `num_snapshots`, one taken every `every_steps`.

    The paper takes one at the end of each epoch. The state holds so many copies of the
    parameters: for many, average checkpoints instead, which costs no device memory.
    Source: Kaddour 2022, https://arxiv.org/abs/2209.14981, section 2.
    """

    def init(params: PyTree) -> LawaState:
        ring = jax.tree.map(lambda w: jnp.stack([w] * num_snapshots), params)
        return LawaState(tx.init(params), ring, jnp.int32(0), jnp.int32(0))

    def update(updates, state, params=None, **extra):
        updates, chain = tx.update(updates, state.chain, params, **extra)
        periods = walk.periods(extra["step"], every_steps)
        due = periods > state.periods
        place = state.num_taken % num_snapshots

        def taken(ring, w):
            return ring.at[place].set(jnp.where(due, w, ring[place]))

        landed = walk.landed(params, updates)
        snapshots = jax.tree.map(taken, state.snapshots, landed)
        return updates, LawaState(chain, snapshots, state.num_taken + due, periods)

    return optax.GradientTransformationExtraArgs(init, update)
