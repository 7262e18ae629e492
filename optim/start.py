"""Links for what starts from another run: they hold on to its parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from core.types import Number
from optim.links import DECAYED

OWN = 1 << 20  # a stream of the step's key that no other link draws from


class Start(NamedTuple):
    """The parameters that training began with."""

    params: PyTree


def add_distance(share: Number) -> optax.GradientTransformationExtraArgs:
    """g <- g + share (w - w at the start): L2-SP, for what starts from another run.

    Of all parameters, for norms and embeddings have been trained as well. `share` lies
    in [0, inf).
    Source: Li et al. 2018, https://arxiv.org/abs/1802.01483, equation 3 with the shares
    of old and new parameters equal.
    """

    def update(updates, state, params=None, **extra):
        del extra
        pulled = jax.tree.map(
            lambda g, w, start: g + share * (w - start), updates, params, state.params
        )
        return pulled, state

    return optax.GradientTransformationExtraArgs(_start, update)


def mixout(share: Number) -> optax.GradientTransformationExtraArgs:
    """g <- gradient where each entry of a kernel is, with chance `share`, as it began.

    The gradient is that of the objective at w_0 + k (w - w_0) / (1 - share), times
    k / (1 - share), where k is 0 with chance `share` and else 1, drawn for each entry
    at each step: dropout towards the start and not towards zero. A second gradient of
    the same batch, as under SAM; the loss that is told is that of all weights. `share`
    lies in [0, 1), about 0.7 to 0.9.
    Source: Lee et al. 2020, https://arxiv.org/abs/1909.11299, equation 4.
    """

    def update(updates, state, params=None, **extra):
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.fold_in(extra["key"], OWN), len(leaves))
        kept = jax.tree.map(
            lambda key, w, mixed: _kept(key, w, share) if mixed else jnp.ones_like(w),
            structure.unflatten(keys),
            params,
            DECAYED(params),
        )
        mixed = jax.tree.map(
            lambda w, start, k: (start + k * (w - start)).astype(w.dtype),
            params,
            state.params,
            kept,
        )
        grads = extra["grad_fn"](mixed)
        return jax.tree.map(lambda g, k: (k * g).astype(g.dtype), grads, kept), state

    return optax.GradientTransformationExtraArgs(_start, update)


def _start(params: PyTree) -> Start:
    return Start(jax.tree.map(jnp.copy, params))


def _kept(key, w, share):
    """1 / (1 - share), or 0 with chance `share`; of the shape of w."""
    return jax.random.bernoulli(key, 1.0 - share, w.shape) / (1.0 - share)
