"""Rules that find the rate out: leave the peak of the schedule at 1.

Each estimates how far the solution is from where training began, from a first guess
that is far too small. The estimates are sums over all parameters, in float32 whatever
the parameters are. But bfloat16 parameters, which a small step does not move, may show
no distance at all.
"""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.types import Number
from optim.layers import per_layer


class ProdigyState(NamedTuple):
    """Moments and sum of weighted gradients, where training began, the distance `d`."""

    steps: Array
    mean: PyTree
    square: PyTree
    total: PyTree
    began: PyTree
    d: Array
    progress: Array


def prodigy(
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    start: Number = 1e-6,
    coefficient: Number = 1.0,
    safeguard_warmup: bool = False,
) -> optax.GradientTransformation:
    """u <- d_k c m / (sqrt(v) + d eps),  d_k and d the distance before and after:

    m <- b1 m + (1 - b1) d_k g,  v <- b2 v + (1 - b2) (d_k g)^2
    p <- b3 p + d_k a <g, w_0 - w>,  s <- b3 s + d_k a g,  b3 = sqrt(b2)
    d <- max(d_k, coefficient p / |s|_1),  a = d_k c rate

    d begins as `start`, and c = sqrt(1 - b2^t) / (1 - b1^t) is Adam's correction. With
    `safeguard_warmup` s has d_k in the place of a, lest small rates make d jump.
    `coefficient` is what one tunes, if anything. As long as |s| is 0, d stays.
    Departs from optax.contrib.prodigy, which is NaN for ever after a first gradient or
    rate of zero, and keeps d in bfloat16 where parameters are.
    Source: Mishchenko & Defazio 2023, https://arxiv.org/abs/2306.06101, algorithm 4,
    with the weights and correction of https://github.com/konstmish/prodigy.
    """

    def init(params):
        zeros = functools.partial(jax.tree.map, jnp.zeros_like, params)
        began, d = jax.tree.map(jnp.copy, params), jnp.asarray(start, jnp.float32)
        steps, progress = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        return ProdigyState(steps, zeros(), zeros(), zeros(), began, d, progress)

    def update(updates, state, params=None, **extra):
        steps, before, b3 = state.steps + 1, state.d, b2**0.5
        correction = _full(b2, steps) ** 0.5 / _full(b1, steps)
        a = before * correction * extra["rate"]
        # In units of start^2, for the squares of small distances are small.
        weight = before / start * (before if safeguard_warmup else a)
        gone = jax.tree.map(operator.sub, state.began, params)
        progress = b3 * state.progress + before / start * a * _dot(updates, gone)
        total = _mix(state.total, updates, b3, weight)
        d = _farther(before, coefficient * progress, _sum_abs(total))
        mean = _mix(state.mean, updates, b1, (1 - b1) * before)
        square = jax.tree.map(
            lambda v, g: b2 * v + (1 - b2) * (before * g) ** 2, state.square, updates
        )
        updates = jax.tree.map(
            lambda m, v: before * correction * m / (jnp.sqrt(v) + d * eps), mean, square
        )
        state = ProdigyState(steps, mean, square, total, state.began, d, progress)
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


class DAdaptState(NamedTuple):
    """Moments and running mean of weighted gradients, the distance `d`."""

    mean: PyTree
    square: PyTree
    total: PyTree
    d: Array
    progress: Array


def dadapt_adam(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, start: Number = 1e-6
) -> optax.GradientTransformation:
    """u <- m / (rate (sqrt(v) + eps)), with a = d_k rate and d_k the distance before:

    m <- b1 m + (1 - b1) a g,  v <- b2 v + (1 - b2) g^2
    p <- b3 p + (1 - b3) a <g, s / (sqrt(v_k) + eps)>,  b3 = sqrt(b2)
    s <- b3 s + (1 - b3) a g,  d <- max(d_k, p / ((1 - b3) |s|_1))

    D-Adaptation for Adam. d begins as `start`. m holds the rates of its gradients, so
    the step's own is divided out, that the chain may multiply by it; at a rate of zero
    nothing moves. p takes s and v_k of before the step. As long as |s| is 0, d stays.
    Departs from optax.contrib.dadapt_adamw, which corrects m and v as Adam does, is NaN
    for ever after a first gradient or rate of zero, and keeps d in bfloat16 where
    parameters are.
    Source: Defazio & Mishchenko 2023, https://arxiv.org/abs/2301.07733, for Adam, as in
    https://github.com/facebookresearch/dadaptation.
    """

    def init(params):
        zeros = functools.partial(jax.tree.map, jnp.zeros_like, params)
        d = jnp.asarray(start, jnp.float32)
        progress = jnp.zeros((), jnp.float32)
        return DAdaptState(zeros(), zeros(), zeros(), d, progress)

    def update(updates, state, params=None, **extra):
        del params
        rate, b3 = extra["rate"], b2**0.5
        a = state.d * rate
        scaled = jax.tree.map(
            lambda s, v: s / (jnp.sqrt(v) + eps), state.total, state.square
        )
        progress = b3 * state.progress + (1 - b3) * a * _dot(updates, scaled)
        total = _mix(state.total, updates, b3, (1 - b3) * a)
        d = _farther(state.d, progress, (1 - b3) * _sum_abs(total))
        mean = _mix(state.mean, updates, b1, (1 - b1) * a)
        square = jax.tree.map(
            lambda v, g: b2 * v + (1 - b2) * g**2, state.square, updates
        )
        share = jnp.where(rate > 0, 1 / jnp.where(rate > 0, rate, 1.0), 0.0)
        updates = jax.tree.map(
            lambda m, v: share * m / (jnp.sqrt(v) + eps), mean, square
        )
        return updates, DAdaptState(mean, square, total, d, progress)

    return optax.GradientTransformationExtraArgs(init, update)


class DistanceState(NamedTuple):
    """Where training began, how far it has been from there, sum of squared norms."""

    began: PyTree
    farthest: Array
    squares: Array


def dog(
    *, start: Number = 1e-6, eps: Number = 1e-8, per_tensor: bool = False
) -> optax.GradientTransformation:
    """u <- r g / sqrt(G + eps): distance over gradients, with

    r = max(start (1 + |w_0|), |w_1 - w_0|, ..., |w - w_0|),  G <- G + |g|^2

    Norms are over all parameters, or with `per_tensor` over one of one layer (LDoG).
    The authors evaluate an average of the parameters (see optim.average). `start`, by
    which the first step moves, as a share, is positive and small.
    Departs from optax.contrib.dog in that r and G are float32 always: in bfloat16, G
    stops growing at 256 times what is added to it.
    Source: Ivgi et al. 2023, https://arxiv.org/abs/2302.12022, equation (DoG).
    """

    def step(r, square, squares):
        squares = squares + square
        return r / jnp.sqrt(squares + eps), squares

    tx = _by_distance(start, step)
    return per_layer(tx) if per_tensor else tx


def dowg(
    *, start: Number = 1e-4, per_tensor: bool = False
) -> optax.GradientTransformation:
    """u <- r^2 g / sqrt(G),  G <- G + r^2 |g|^2: DoG with its gradients weighted,

    r = max(start (1 + |w_0|), |w_1 - w_0|, ..., |w - w_0|)

    so that those of the beginning, when r was small, do not hold later steps back.
    u is 0 while all gradients were. Norms are as in `dog`.
    The paper leaves the first r free; here it is that of DoG. Departs from
    optax.contrib.dowg in that, and in having no eps.
    Source: Khaled et al. 2023, https://arxiv.org/abs/2305.16284, algorithm 1.
    """

    def step(r, square, squares):
        squares = squares + r**2 * square
        root = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
        return jnp.where(squares > 0, r**2 / root, 0.0), squares

    tx = _by_distance(start, step)
    return per_layer(tx) if per_tensor else tx


def _by_distance(start: Number, step) -> optax.GradientTransformation:
    """u <- share g; `step(r, |g|^2, squares)` gives `share` and the new `squares`."""

    def init(params):
        farthest = jnp.asarray(start * (1 + _norm(params)))
        began = jax.tree.map(jnp.copy, params)
        return DistanceState(began, farthest, jnp.zeros((), jnp.float32))

    def update(updates, state, params=None):
        gone = jax.tree.map(operator.sub, params, state.began)
        farthest = jnp.maximum(state.farthest, _norm(gone))
        share, squares = step(farthest, _norm(updates) ** 2, state.squares)
        updates = jax.tree.map(lambda g: share * g, updates)
        return updates, DistanceState(state.began, farthest, squares)

    return optax.GradientTransformation(init, update)


def _norm(tree: PyTree) -> Array:
    return optax.tree.norm(optax.tree.cast(tree, jnp.float32))


def _dot(tree: PyTree, other: PyTree) -> Array:
    tree, other = (optax.tree.cast(t, jnp.float32) for t in (tree, other))
    return jnp.asarray(optax.tree.vdot(tree, other))


def _sum_abs(tree: PyTree) -> Array:
    return optax.tree.norm(optax.tree.cast(tree, jnp.float32), ord=1)


def _full(b: Number, steps: Array) -> Array:
    """1 - b^steps, without the error of b = 0.999 in float32, 3e-5 of it at first."""
    return -jnp.expm1(steps * jnp.log1p(b - 1))


def _mix(old: PyTree, new: PyTree, share: Number, weight: Number | Array) -> PyTree:
    """share old + weight new."""
    return jax.tree.map(lambda o, n: share * o + weight * n, old, new)


def _farther(d: Array, above: Array, below: Array) -> Array:
    """max(d, above / below); d where nothing is below."""
    some = below > 0
    return jnp.maximum(d, jnp.where(some, above / jnp.where(some, below, 1.0), d))
