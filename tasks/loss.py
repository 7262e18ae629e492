"""Cross-entropy from features, a chunk of logits at a time, without one-hot targets.

Source: label smoothing: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section
7; z-loss: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5; gradients
in the forward pass, so that no logits are kept or made twice: Hsu et al. 2024,
https://arxiv.org/abs/2410.10989, section 3.2.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.mean import Mean
from core.numbers import off
from core.types import Number
from models.readout import Readout


class Penalties(NamedTuple):
    """What the objective adds to plain cross-entropy; None where it is off."""

    smoothing: Number | None
    z_loss: Number | None


class Sums(NamedTuple):
    """Over all tokens, by weight. Only `objective` has a gradient."""

    objective: Float[Array, ""]
    nats: Float[Array, ""]
    hits: Float[Array, ""]


def token_scores(
    x_BLD: Float[Array, "B L D"],
    readout: Readout,
    target_BL: Int[Array, "B L"],
    weight_BL: Float[Array, "B L"],
    *,
    smoothing: Number,
    z_loss: Number,
    chunk: int,
) -> dict[str, Mean]:
    """`loss`, nats a token; `objective`, with its penalties; `accuracy`, the share of
    tokens ranked first.

    objective = (1 - smoothing) nats + smoothing mean(-log p) + z_loss logsumexp(z)^2.
    Logits of `chunk` places of every row are in memory at once; 0 is all. Numbers that
    are 0.0 leave no trace. Gradients reach features and readout, nothing else.
    """
    penalties = Penalties(
        None if off(smoothing, 0.0) else smoothing, None if off(z_loss, 0.0) else z_loss
    )
    sums: Sums = _sums(chunk, x_BLD, readout, target_BL, weight_BL, penalties)
    weight = weight_BL.sum()
    return {
        "objective": Mean(sums.objective, weight),
        "loss": Mean(jax.lax.stop_gradient(sums.nats), weight),
        "accuracy": Mean(jax.lax.stop_gradient(sums.hits), weight),
    }


def _of_chunk(x_BLD, readout: Readout, target_BL, weight_BL, penalties) -> Sums:
    """With z the logits and t the target: nats = logsumexp(z) - z_t."""
    logit_BLV = readout(x_BLD)
    top_BL1 = jax.lax.stop_gradient(logit_BLV.max(-1, keepdims=True))
    shifted_BLV = logit_BLV - top_BL1
    V = logit_BLV.shape[-1]
    id_11V = jnp.arange(V)[None, None]
    is_target_BLV = id_11V == target_BL[..., None]  # cheaper than a scatter
    own_BL = jnp.where(is_target_BLV, shifted_BLV, 0).sum(-1)
    log_sum_BL = jnp.log(jnp.exp(shifted_BLV).sum(-1))
    nats_BL = objective_BL = log_sum_BL - own_BL
    if penalties.smoothing is not None:
        objective_BL += penalties.smoothing * (own_BL - shifted_BLV.mean(-1))
    if penalties.z_loss is not None:
        objective_BL += penalties.z_loss * (log_sum_BL + top_BL1[..., 0]) ** 2
    hit_BL = (own_BL >= 0).astype(jnp.float32)
    rows = (objective_BL, nats_BL, hit_BL)
    return Sums(*((row_BL * weight_BL).sum() for row_BL in rows))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(chunk, x_BLD, readout, target_BL, weight_BL, penalties) -> Any:
    def of_chunk(x_BLD, target_BL, weight_BL):
        return _of_chunk(x_BLD, readout, target_BL, weight_BL, penalties), ()

    return _over_chunks(chunk, of_chunk, x_BLD, target_BL, weight_BL)[0]


def _sums_forward(chunk, x_BLD, readout, target_BL, weight_BL, penalties):
    """The sums and, to be scaled later, their gradients."""

    def objective(x_BLD, readout, target_BL, weight_BL):
        sums = _of_chunk(x_BLD, readout, target_BL, weight_BL, penalties)
        return sums.objective, sums

    def of_chunk(x_BLD, target_BL, weight_BL):
        differentiate = jax.grad(objective, argnums=(0, 1), has_aux=True)
        (grad_BLD, grad), sums = differentiate(x_BLD, readout, target_BL, weight_BL)
        return (sums, grad), grad_BLD

    (sums, grad), grad_BLD = _over_chunks(chunk, of_chunk, x_BLD, target_BL, weight_BL)
    zeros = jax.tree.map(jnp.zeros_like, penalties)
    return sums, (grad_BLD, grad, jnp.zeros_like(weight_BL), zeros)


def _sums_backward(chunk, residuals, gradient: Sums):
    del chunk
    grad_BLD, grad, zeros_BL, zeros = residuals
    factor = gradient.objective
    grad_BLD = grad_BLD * factor.astype(grad_BLD.dtype)
    grad = jax.tree.map(lambda g: g * factor.astype(g.dtype), grad)
    return grad_BLD, grad, None, zeros_BL, zeros


_sums.defvjp(_sums_forward, _sums_backward)


def _over_chunks(chunk: int, function: Callable, *rows_BL) -> Any:
    """Sum of the function's first result and the chunks of its second, end to end."""
    L = rows_BL[0].shape[1]
    if not 0 < chunk < L:
        return function(*rows_BL)
    count = -(-L // chunk)

    def split(x):
        wide = ((0, 0), (0, count * chunk - L), *((0, 0),) * (x.ndim - 2))
        x = jnp.pad(x, wide)  # of weight 0
        return jnp.moveaxis(x.reshape(len(x), count, chunk, *x.shape[2:]), 1, 0)

    def join(x):
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(len(x), count * chunk, *x.shape[3:])[:, :L]

    def add(total, rows):
        more, parts = function(*rows)
        return jax.tree.map(jnp.add, total, more), parts

    chunks = [split(x) for x in rows_BL]
    zero = jax.eval_shape(function, *(x[0] for x in chunks))[0]
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zero)
    total, parts = jax.lax.scan(add, zero, chunks)
    return total, jax.tree.map(join, parts)
