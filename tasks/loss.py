"""Cross-entropy from features, a chunk of logits at a time, without one-hot targets.

Source: gradients in the forward pass, so that no logits are kept or made twice: Hsu et
al. 2024, https://arxiv.org/abs/2410.10989, section 3.2.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from core.mean import Mean
from models.readout import Readout
from tasks.penalties import Penalties, divergence, rows_of


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
    penalties: Penalties,
    chunk: int,
    again_BLD: Float[Array, "B L D"] | None = None,
) -> dict[str, Mean]:
    """`loss`, nats a token; `objective`, with its penalties; `accuracy`, the share of
    tokens ranked first.

    Logits of `chunk` places of every row are in memory at once; 0 is all. `again_BLD`
    is what R-Drop's second forward pass gave; then all are means of both passes.
    Gradients reach features and readout, nothing else.
    """
    features = (x_BLD,) if again_BLD is None else (x_BLD, again_BLD)
    sums: Sums = _sums(chunk, features, readout, target_BL, weight_BL, penalties)
    weight = weight_BL.sum()
    return {
        "objective": Mean(sums.objective, weight),
        "loss": Mean(jax.lax.stop_gradient(sums.nats), weight),
        "accuracy": Mean(jax.lax.stop_gradient(sums.hits), weight),
    }


def drawn_targets(
    x_BLD: Float[Array, "B L D"],
    readout: Readout,
    key: PRNGKeyArray,
    *,
    chunk: int,
) -> Int[Array, "B L"]:
    """A token at each place, drawn with the probability that the logits give it.

    Logits of `chunk` places of every row are in memory at once; 0 is all.
    """
    x_BLD, readout = jax.lax.stop_gradient((x_BLD, readout))
    place_BL = jnp.broadcast_to(jnp.arange(x_BLD.shape[1])[None], x_BLD.shape[:2])

    def of_chunk(x_BLD, place_BL):
        own = jax.random.fold_in(key, place_BL[0, 0])
        return (), jax.random.categorical(own, readout(x_BLD))

    return _over_chunks(chunk, of_chunk, x_BLD, place_BL)[1]


def _of_chunk(features, readout: Readout, target_BL, weight_BL, penalties) -> Sums:
    """Over one chunk; `features` are of one forward pass, or of two."""
    logits = [readout(x_BLD) for x_BLD in features]
    passes = [rows_of(logit_BLV, target_BL, penalties) for logit_BLV in logits]
    rows = passes[0]
    if len(passes) > 1:
        rows = jax.tree.map(lambda a_BL, b_BL: (a_BL + b_BL) / 2, *passes)
        apart_BL = penalties.r_drop / 4 * divergence(*logits)
        rows = rows._replace(objective_BL=rows.objective_BL + apart_BL)
    return Sums(*((row_BL * weight_BL).sum() for row_BL in rows))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(chunk, features, readout, target_BL, weight_BL, penalties) -> Any:
    def of_chunk(features, target_BL, weight_BL):
        return _of_chunk(features, readout, target_BL, weight_BL, penalties), ()

    return _over_chunks(chunk, of_chunk, features, target_BL, weight_BL)[0]


def _sums_forward(chunk, features, readout, target_BL, weight_BL, penalties):
    """The sums and, to be scaled later, their gradients."""

    def objective(features, readout, target_BL, weight_BL):
        sums = _of_chunk(features, readout, target_BL, weight_BL, penalties)
        return sums.objective, sums

    def of_chunk(features, target_BL, weight_BL):
        differentiate = jax.grad(objective, argnums=(0, 1), has_aux=True)
        (own, grad), sums = differentiate(features, readout, target_BL, weight_BL)
        return (sums, grad), own

    (sums, grad), own = _over_chunks(chunk, of_chunk, features, target_BL, weight_BL)
    zeros = jax.tree.map(jnp.zeros_like, penalties)
    return sums, (own, grad, jnp.zeros_like(weight_BL), zeros)


def _sums_backward(chunk, residuals, gradient: Sums):
    del chunk
    own, grad, zeros_BL, zeros = residuals
    factor = gradient.objective
    own, grad = jax.tree.map(lambda g: g * factor.astype(g.dtype), (own, grad))
    return own, grad, None, zeros_BL, zeros


_sums.defvjp(_sums_forward, _sums_backward)


def _over_chunks(chunk: int, function: Callable, *rows) -> Any:
    """Sum of the function's first result and the chunks of its second, end to end.

    Rows are trees of arrays whose second axis is that of places.
    """
    L = jax.tree.leaves(rows)[0].shape[1]
    if not 0 < chunk < L:
        return function(*rows)
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

    chunks = jax.tree.map(split, rows)
    zero = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], chunks))[0]
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zero)
    total, parts = jax.lax.scan(add, zero, chunks)
    return total, jax.tree.map(join, parts)
