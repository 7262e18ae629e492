"""Rules that measure each tensor: its step is set by norms of its own."""

import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.numbers import off
from core.types import Number
from optim.layers import per_layer
from optim.links import DECAYED, add_weights


def lamb(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-6, decay: Number = 0.0
) -> optax.GradientTransformation:
    """u <- |w| / |r| r,  r = m' / (sqrt(v') + eps) + decay w,  tensor by tensor.

    m' and v' are Adam's, |.| the 2-norm over one tensor of one layer. So a step moves
    each tensor by the rate, as a share of its norm. Where w or r is all zeros, u <- r.
    `decay` is of kernels only and turns the step without lengthening it; `optim.decay`
    comes after the ratio, which does not see it.
    `b1` and `b2` lie in [0, 1). The paper's phi, which may bound |w|, is the identity,
    as in its experiments.
    Source: You et al. 2020, https://arxiv.org/abs/1904.00962, algorithm 2.
    """
    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        _decay(decay),
        per_layer(optax.scale_by_trust_ratio()),
    )


def lars(
    *,
    momentum: Number = 0.9,
    trust: Number = 0.001,
    decay: Number = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """u <- m,  m <- momentum m + share (g + decay w),  tensor by tensor:

    share = trust |w| / (|g| + decay |w|)

    A tensor of zeros takes share = 1, as in other implementations, so it starts with a
    step of the rate times g; rates are large here, for `trust` is small. `decay` is of
    kernels only; `optim.decay` is another, outside of the share and of m.
    `momentum` lies in [0, 1), `trust` is positive. Departs from the paper in that the
    rate is outside of m: the same while it is constant. Departs from optax.lars, whose
    share has |g + decay w| below the line.
    Source: You et al. 2017, https://arxiv.org/abs/1708.03888, equation 6, algorithm 1.
    """

    def adapt(decay: Number) -> optax.GradientTransformation:
        def scale(g, w):
            size, slope = _norm(w), _norm(g) + decay * _norm(w)
            share = jnp.where((size > 0) & (slope > 0), trust * size / slope, 1.0)
            return share * (g + decay * w)

        return per_layer(optax.stateless(scale))

    def others(params):
        return jax.tree.map(operator.not_, DECAYED(params))

    if off(decay, 0.0):
        adapted = adapt(0.0)
    else:
        adapted = optax.chain(
            optax.masked(adapt(decay), DECAYED), optax.masked(adapt(0.0), others)
        )
    if off(momentum, 0.0):
        return adapted
    return optax.chain(adapted, optax.trace(momentum, nesterov=nesterov))


class RunningNorm(NamedTuple):
    """Of one tensor: the running mean of its gradient's squared norm; 0 before any."""

    square: Array


def novograd(
    *, b1: Number = 0.95, b2: Number = 0.98, eps: Number = 1e-8, decay: Number = 0.0
) -> optax.GradientTransformation:
    """u <- m,  m <- b1 m + g / (sqrt(v) + eps) + decay w,  tensor by tensor:

    v <- b2 v + (1 - b2) |g|^2, which begins as the first |g|^2 that is not zero

    A tensor has one v, so the state is half of Adam's. The new gradient enters m whole:
    at rest the step is 1 / (1 - b1) times as long. `decay` is of kernels only and goes
    through m; `optim.decay` does not.
    `b1` and `b2` lie in [0, 1); the speech models that followed have b2 at 0.25 to 0.5.
    Departs from optax.novograd, which takes no traced number for bfloat16 parameters,
    in that v is float32 always.
    Source: Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286, algorithm 1.
    """

    def init(params):
        del params
        return RunningNorm(jnp.zeros((), jnp.float32))

    def update(updates, state, params=None):
        del params
        new = jnp.square(_norm(updates))
        old = jnp.where(state.square > 0, state.square, new)
        square = b2 * old + (1 - b2) * new
        return updates / (jnp.sqrt(square) + eps), RunningNorm(square)

    return optax.chain(
        per_layer(optax.GradientTransformation(init, update)),
        _decay(decay),
        optax.trace(b1),
    )


def _norm(tensor):
    return jnp.linalg.norm(jnp.ravel(tensor.astype(jnp.float32)))


def _decay(decay: Number) -> optax.GradientTransformation:
    """The rule's own, before its ratio or its momentum; kernels only."""
    return optax.identity() if off(decay, 0.0) else add_weights(decay)
