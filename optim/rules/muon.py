"""Muon and NorMuon: hidden matrices move along the polar factor of their momentum."""

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from core.numbers import off
from core.types import Number
from optim.rules.adam import adam
from optim.rules.descent import sgd
from optim.rules.kinds import hidden_and_rest
from optim.rules.polar import Coefficients, polar

Scale = Literal["rms", "shape", "none"]

RMS = 0.2  # about that of Adam's updates, as Liu et al. find it


def muon(
    *,
    momentum: Number = 0.95,
    nesterov: bool = True,
    coefficients: Coefficients = "jordan",
    steps: int = 5,
    scale: Scale = "rms",
    aux_b1: Number = 0.9,
    aux_b2: Number = 0.95,
    aux_eps: Number = 1e-10,
    aux_share: Number = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Of a hidden matrix  m <- momentum m + g;  u <- scale polar(g + momentum m)

    and of every other parameter  u <- aux_share adam(g)  with the numbers `aux_...`.
    Without `nesterov` it is polar(m). `scale` is, of a matrix (in, out),

    rms      0.2 sqrt(max(in, out)), for u to be as large as Adam's: use Adam's rate
    shape    sqrt(max(1, out / in)), for its outputs to move alike: rates of about 0.02,
             and an `aux_share` of about 0.02
    none     1

    `coefficients` and `steps` are those of `polar`. Departs from optax.contrib.muon,
    which hands `nesterov` on to its Adam and keeps its coefficients in the state.
    `momentum`, `aux_b1` and `aux_b2` lie in [0, 1).
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; `rms` Liu et
    al. 2025, https://arxiv.org/abs/2502.16982, section 2.2.
    """
    matrices = optax.chain(
        sgd(momentum=momentum, nesterov=nesterov),
        _orthogonal(coefficients, steps),
        _sized(scale),
    )
    return hidden_and_rest(matrices, _rest(aux_b1, aux_b2, aux_eps, aux_share))


def normuon(
    *,
    momentum: Number = 0.95,
    b2: Number = 0.95,
    nesterov: bool = True,
    coefficients: Coefficients = "jordan",
    steps: int = 5,
    scale: Scale = "rms",
    aux_b1: Number = 0.9,
    aux_b2: Number = 0.95,
    aux_eps: Number = 1e-10,
    aux_share: Number = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Muon, with each output of a matrix brought to the size that it mostly has not.

    o = polar(g + momentum m)
    v <- b2 v + (1 - b2) mean(o^2)   for each output, the mean over its inputs
    n = o / sqrt(v);  u <- scale n |o| / |n|

    The norm of u is that of Muon's, to which the paper's own factor,
    0.2 sqrt(in out) / |n|, comes with `rms` where o is orthogonal; the authors' code
    has this one, and Nesterov's momentum, which the paper has not. v needs no
    correction: |o| / |n| undoes it. Departs from both in having no eps; an output
    without a gradient stays.
    The other words and numbers are those of `muon`. `b2` lies in [0, 1).
    Source: Li et al. 2025, https://arxiv.org/abs/2510.05491, algorithm 1.
    """
    matrices = optax.chain(
        sgd(momentum=momentum, nesterov=nesterov),
        _orthogonal(coefficients, steps),
        by_output(b2),
        _sized(scale),
    )
    return hidden_and_rest(matrices, _rest(aux_b1, aux_b2, aux_eps, aux_share))


class ByOutput(NamedTuple):
    """The state of `by_output`."""

    square_O: Float[Array, "O"]


def by_output(b2: Number) -> optax.GradientTransformation:
    """Each column of a matrix over the root of its running mean square, |u| kept."""

    def init(params):
        kind = jnp.promote_types(params.dtype, jnp.float32)
        return ByOutput(jnp.zeros(params.shape[-1], kind))

    def update(updates, state, params=None):
        del params
        u_IO = updates
        square_O = b2 * state.square_O + (1 - b2) * jnp.mean(u_IO**2, axis=0)
        shrink_O = jnp.where(square_O > 0, square_O, jnp.inf) ** -0.5
        even_IO = jnp.einsum("IO,O->IO", u_IO, shrink_O)
        norm, now = jnp.linalg.norm(u_IO), jnp.linalg.norm(even_IO)
        return even_IO * (norm / jnp.where(now > 0, now, 1.0)), ByOutput(square_O)

    return optax.GradientTransformation(init, update)


def _orthogonal(coefficients, steps):
    def update(u_IO, _):
        return polar(u_IO, coefficients, steps)

    return optax.stateless(update)


def _sized(scale):
    def update(u_IO, _):
        num_inputs, num_outputs = u_IO.shape
        if scale == "rms":
            return RMS * math.sqrt(max(num_inputs, num_outputs)) * u_IO
        if scale == "shape":
            return math.sqrt(max(1.0, num_outputs / max(1, num_inputs))) * u_IO
        return u_IO

    return optax.stateless(update)


def _rest(b1, b2, eps, share):
    smaller = optax.identity() if off(share, 1.0) else optax.scale(share)
    return optax.chain(adam(b1=b1, b2=b2, eps=eps), smaller)
