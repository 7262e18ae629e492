"""A model's forward pass, as tasks score it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from core.mean import Mean
from core.numbers import off
from core.types import Number
from tasks.loss import token_scores


def scores_of(
    model: nn.Module,
    params: PyTree,
    inputs: Sequence[Int[Array, "B _"]],
    target_BL: Int[Array, "B L"],
    weight_BL: Float[Array, "B L"],
    key: PRNGKeyArray,
    *,
    train: bool,
    smoothing: Number,
    z_loss: Number,
    chunk: int,
) -> dict[str, Mean]:
    """See `token_scores`. Experts add `balance`, and its part of the objective."""
    (x_BLD, readout), sown = model.apply(
        {"params": params},
        *inputs,
        train=train,
        rngs={"dropout": key},
        mutable=["losses"],
        method="features",
    )
    scores = token_scores(
        x_BLD,
        readout,
        target_BL,
        weight_BL,
        smoothing=smoothing if train else 0.0,
        z_loss=z_loss if train else 0.0,
        chunk=chunk,
    )
    uneven = jax.tree.leaves(sown)
    if not uneven:
        return scores
    total, weight = scores["objective"]
    balance = jnp.concatenate([jnp.ravel(leaf) for leaf in uneven]).mean() * weight
    scores["balance"] = Mean(jax.lax.stop_gradient(balance), weight)
    if train and not off(model.balance, 0.0):
        scores["objective"] = Mean(total + model.balance * balance, weight)
    return scores
