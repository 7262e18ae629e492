"""Rules for one matrix at a time that do something at some steps only."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from optim.layers import per_layer


class CountedState(NamedTuple):
    """How many updates were taken, and the states of the layers."""

    num_updates: Int[Array, ""]
    layers: PyTree


def per_layer_counted(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`per_layer(tx)`, with `num_updates`, those taken before, as an extra argument.

    One count serves all layers. With a count of its own in each, a `lax.cond` on it
    would become a select under the map over layers: both of its sides at every step.
    """
    each = per_layer(tx)

    def init(params: PyTree) -> CountedState:
        return CountedState(jnp.int32(0), each.init(params))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra: Any):
        updates, layers = each.update(
            updates, state.layers, params, num_updates=state.num_updates, **extra
        )
        num_updates = jnp.asarray(optax.safe_increment(state.num_updates))
        return updates, CountedState(num_updates, layers)

    return optax.GradientTransformationExtraArgs(init, update)


def check_every(*, every_steps: int = 1, **_: Any) -> None:
    """Raises ValueError unless there are steps between."""
    if every_steps < 1:
        raise ValueError(f"every_steps={every_steps} must be at least 1.")
