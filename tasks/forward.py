"""A model's forward pass, as tasks score it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from core.mean import Mean
from core.numbers import off
from tasks.loss import drawn_targets, token_scores
from tasks.penalties import Penalties


def scores_of(
    model: nn.Module,
    params: PyTree,
    inputs: Sequence[Int[Array, "B _"]],
    target_BL: Int[Array, "B L"],
    weight_BL: Float[Array, "B L"],
    key: PRNGKeyArray,
    *,
    train: bool,
    penalties: Penalties,
    chunk: int,
) -> dict[str, Mean]:
    """See `token_scores`. Experts add `balance`, and its part of the objective.

    In training R-Drop has a second forward pass, with masks of its own.
    """
    again_BLD, sown_again, again_key = None, {}, None
    if train and penalties.r_drop is not None:
        key, again_key = jax.random.split(key)
    (x_BLD, readout), sown = _features(model, params, inputs, key, train=train)
    if again_key is not None:
        again = _features(model, params, inputs, again_key, train=True)
        (again_BLD, _), sown_again = again
    scores = token_scores(
        x_BLD,
        readout,
        target_BL,
        weight_BL,
        penalties=penalties if train else Penalties(),
        chunk=chunk,
        again_BLD=again_BLD,
    )
    uneven = jax.tree.leaves((sown, sown_again))
    if not uneven:
        return scores
    total, weight = scores["objective"]
    balance = jnp.concatenate([jnp.ravel(leaf) for leaf in uneven]).mean() * weight
    scores["balance"] = Mean(jax.lax.stop_gradient(balance), weight)
    if train and not off(model.balance, 0.0):
        scores["objective"] = Mean(total + model.balance * balance, weight)
    return scores


def drawn_loss_of(
    model: nn.Module,
    params: PyTree,
    inputs: Sequence[Int[Array, "B _"]],
    weight_BL: Float[Array, "B L"],
    key: PRNGKeyArray,
    *,
    chunk: int,
) -> Mean:
    """Plain cross-entropy, in training, against targets drawn from the model.

    They are drawn from the very features that they are scored with, dropout and all:
    so the mean of the gradient is zero.
    """
    dropout_key, key = jax.random.split(key)
    (x_BLD, readout), _ = _features(model, params, inputs, dropout_key, train=True)
    return token_scores(
        x_BLD,
        readout,
        drawn_targets(x_BLD, readout, key, chunk=chunk),
        weight_BL,
        penalties=Penalties(),
        chunk=chunk,
    )["objective"]


def _features(model, params, inputs, key, *, train):
    """Features and readout, and what layers sowed."""
    return model.apply(
        {"params": params},
        *inputs,
        train=train,
        rngs={"dropout": key},
        mutable=["losses"],
        method="features",
    )
