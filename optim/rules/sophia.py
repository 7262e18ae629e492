"""Sophia: momentum over a running diagonal of curvature, clipped at each coordinate.

Source: Liu et al. 2023, https://arxiv.org/abs/2305.14342: algorithm 3, with the
estimators of algorithms 1 (Hutchinson) and 2 (Gauss-Newton-Bartlett). As there, and
unlike optax.contrib.sophia, the momentum is not corrected for the zero it began with,
and a new estimate serves the very step that it is made in.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from core.types import Number


class SophiaState(NamedTuple):
    """The momentum and the running diagonal."""

    num_updates: Int[Array, ""]
    mu: PyTree
    diagonal: PyTree


def sophia_h(
    *,
    b1: Number = 0.96,
    b2: Number = 0.99,
    gamma: Number = 0.01,
    eps: Number = 1e-12,
    every_steps: int = 10,
) -> optax.GradientTransformationExtraArgs:
    """u <- clip(m / max(gamma h, eps), -1, 1), with h a mean of Hessian diagonals.

    m <- b1 m + (1 - b1) g
    h <- b2 h + (1 - b2) s * (H s)   at the first step and every `every_steps` after it

    s are random signs (normals in the paper: the same mean, more variance), and H s
    the derivative of `grad_fn` along them: about two gradients more at such a step, and
    nothing at the others. Mapped over numbers, as in a sweep in one program, each step
    pays for it: `lax.cond` becomes a select. Attention must have a second derivative,
    which the kernels "cudnn", "splash" and "tokamax" lack.
    Where the curvature is negative or unknown the step is a sign. `b1` and `b2` lie in
    [0, 1); `gamma` is to leave about a tenth to a half of the coordinates unclipped.
    Source: see above.
    """

    def estimate(params: PyTree, extra: Mapping[str, Any]) -> PyTree:
        signs = optax.tree.random_like(extra["key"], params, jax.random.rademacher)
        product = jax.jvp(extra["grad_fn"], (params,), (signs,))[1]
        return jax.tree.map(jnp.multiply, signs, product)

    return _sophia(estimate, b1, b2, gamma, eps, every_steps)


def sophia_g(
    *,
    b1: Number = 0.96,
    b2: Number = 0.99,
    gamma: Number = 0.05,
    eps: Number = 1e-12,
    every_steps: int = 10,
) -> optax.GradientTransformationExtraArgs:
    """As `sophia_h`, with h a mean of diagonals of the Gauss-Newton matrix.

    h <- b2 h + (1 - b2) n g'^2

    g' is the gradient of the mean cross-entropy of this batch's n targets, had they
    been drawn from the model's own distribution. n g'^2 has the diagonal of the
    Gauss-Newton matrix of that mean for its mean; it is never negative. It costs a
    gradient more at such a step, and no second derivative.
    Source: see above.
    """

    def estimate(params: PyTree, extra: Mapping[str, Any]) -> PyTree:
        grads, num_targets = extra["sampled_grad_fn"](params, extra["key"])
        return jax.tree.map(lambda g: num_targets * g * g, grads)

    return _sophia(estimate, b1, b2, gamma, eps, every_steps)


def _sophia(
    estimate: Callable[[PyTree, Mapping[str, Any]], PyTree],
    b1: Number,
    b2: Number,
    gamma: Number,
    eps: Number,
    every_steps: int,
) -> optax.GradientTransformationExtraArgs:
    """Sophia with the diagonal that `estimate(params, extra)` gives."""

    def init(params: PyTree) -> SophiaState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return SophiaState(jnp.int32(0), zeros, zeros)

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra: Any):
        def renewed():
            mean = _mean(b2, state.diagonal, estimate(params, extra))
            return optax.tree.cast_like(mean, state.diagonal)

        diagonal = jax.lax.cond(
            state.num_updates % every_steps == 0, renewed, lambda: state.diagonal
        )
        mu = _mean(b1, state.mu, updates)
        updates = jax.tree.map(
            lambda m, h: jnp.clip(m / jnp.maximum(gamma * h, eps), -1.0, 1.0),
            mu,
            diagonal,
        )
        num_updates = jnp.asarray(optax.safe_increment(state.num_updates))
        return updates, SophiaState(num_updates, mu, diagonal)

    return optax.GradientTransformationExtraArgs(init, update)


def _mean(b, old, new):
    return jax.tree.map(lambda m, x: b * m + (1 - b) * x, old, new)
