"""Rules that keep of a matrix of second moments only its rows and its columns.

Their sums are small, and float32 also where parameters are bfloat16: there a sum of
squares stops growing at 256 times what is added to it.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.numbers import off
from core.types import Number
from optim.layers import per_layer


def adafactor(
    *,
    decay_power: Number = 0.8,
    eps: Number = 1e-30,
    clip_rms: Number = 1.0,
    momentum: Number = 0.0,
    scaled: bool = True,
    min_scale: Number = 1e-3,
    min_dim: int = 128,
) -> optax.GradientTransformation:
    """u <- max(rms(w), min_scale) y / max(1, rms(y) / clip_rms),  y = g / sqrt(v)

    R <- b R + (1 - b) mean over columns of g^2 + eps,  C likewise over rows
    v = R C / mean(R),  b = 1 - t^-decay_power

    tensor by tensor, rms over one tensor of one layer. A matrix with a side shorter
    than `min_dim`, and any vector, has v <- b v + (1 - b) (g^2 + eps) whole.
    `scaled=False` leaves the scale of w out; `clip_rms=inf` clips nothing. `momentum`
    makes u its running mean (no bias correction) and keeps a state as large as w.
    `decay_power` lies in (0, 1]: at 1 v is the mean of all g^2.
    The paper's relative step, min(0.01, 1 / sqrt(t)), is a matter of the schedule here,
    and the running mean is of what the rate has not scaled yet.
    Source: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235, algorithms 4 to 6.
    """
    links = [
        optax.scale_by_factored_rms(
            decay_rate=decay_power, epsilon=eps, min_dim_size_to_factor=min_dim
        )
    ]
    if not off(clip_rms, math.inf):
        links.append(optax.clip_by_block_rms(clip_rms))
    if scaled:
        links.append(optax.scale_by_param_block_rms(min_scale))
    return optax.chain(
        per_layer(_in_float32(optax.chain(*links))), _running_mean(momentum)
    )


class Cover(NamedTuple):
    """Of a tensor: a bound on its sums of squares for each place on each axis."""

    bounds: tuple[Array, ...]


def sm3(*, momentum: Number = 0.9) -> optax.GradientTransformation:
    """u <- momentum u + (1 - momentum) g / sqrt(v),  0 where v is 0:

    v_ij = min(R_i, C_j) + g_ij^2,  R_i <- max_j v_ij,  C_j <- max_i v_ij

    v bounds AdaGrad's sum of squares from above, and is that of a vector. A matrix has
    a row and a column for state; without `momentum`, which lies in [0, 1), no more.
    Departs from optax.sm3 in having no eps, which the paper has not (1e-8 there, in
    the root, is felt by gradients of 1e-3), and in keeping nothing for a momentum of 0.
    Source: Anil et al. 2019, https://arxiv.org/abs/1901.11150, algorithm SM3-II.
    """

    def init(params):
        return Cover(tuple(jnp.zeros(size, params.dtype) for size in params.shape))

    def update(updates, state, params=None):
        del params
        g, axes = updates, range(updates.ndim)
        bounds = [
            jnp.expand_dims(bound, [other for other in axes if other != axis])
            for axis, bound in zip(axes, state.bounds, strict=True)
        ]
        v = functools.reduce(jnp.minimum, bounds) + jnp.square(g)
        state = Cover(
            tuple(
                v.max([other for other in axes if other != axis], initial=0.0)
                for axis in axes
            )
        )
        return jnp.where(v > 0, g / jnp.sqrt(jnp.where(v > 0, v, 1.0)), 0.0), state

    one = _in_float32(optax.GradientTransformation(init, update))
    return optax.chain(per_layer(one), _running_mean(momentum))


def _running_mean(momentum: Number) -> optax.GradientTransformation:
    if off(momentum, 0.0):
        return optax.identity()
    return optax.ema(momentum, debias=False)


def _in_float32(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """`tx`, shown everything in float32; what it keeps is float32 too."""

    def cast(tree):
        return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

    def init(params):
        return tx.init(cast(params))

    def update(updates, state, params=None):
        return tx.update(cast(updates), state, cast(params))

    return optax.GradientTransformation(init, update)
