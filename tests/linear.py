"""The exact expected loss of a linear optimizer on a noisy quadratic.

The loss is h w^2 / 2, its gradient h w + noise, of variance c / B. What changes in a
step are N numbers, the parameter and what the state holds of its kind, and a linear
chain maps them linearly. That map is taken through the chain itself by its Jacobian J;
its last column is the gain of the noise, its last row what is evaluated after the step:

    (x, seen) <- J (x, noise)
    mean <- J (mean, 0);  covariance <- J diag(covariance, c / B) J^T
    expected loss = h (mean of seen^2 + variance of seen) / 2

Scalars and integers of a state (a count, a sum of weights) may go by the step alone.
Letters: T steps, D directions with a curvature each, N numbers and what is seen after a
step, M numbers and noise before it, P points, R replicas.
Source: Zhang et al. 2019, https://arxiv.org/abs/1907.04164, for gradient descent with
momentum; departs from it in taking the map of any chain, and of what is evaluated.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

import optim

Tree = Any
Chain = optax.GradientTransformationExtraArgs
LEAF = "out"  # a kernel's name: weight decay holds of it
ROUNDING = 1e-4  # of float32, beside the largest number of a point


def exact_curve(
    tx: Chain,
    *,
    curvature: ArrayLike,
    noise: ArrayLike,
    batch: ArrayLike,
    start: ArrayLike,
    num_steps: int,
) -> np.ndarray:
    """The expected loss of what is evaluated, before the first step and after each.

    Summed over directions where `curvature` has many, each with its own noise c and
    start, or one for all. `batch` is a number or one for each step; inf has no noise.

    Raises:
      ValueError: the chain is not linear.
    """
    h_D = jnp.atleast_1d(jnp.asarray(curvature, jnp.float32))
    w_D = jnp.broadcast_to(jnp.asarray(start, jnp.float32), h_D.shape)

    @jax.jit
    def run(h_D, w_D):
        found = jax.vmap(partial(maps, tx, num_steps=num_steps), out_axes=1)(h_D)
        return *found, jax.vmap(partial(numbers_at, tx))(w_D)

    J_TDNM, fault_TD, x_DN = run(h_D, w_D)
    refuse(fault_TD)
    return propagated(J_TDNM, x_DN, curvature=curvature, noise=noise, batch=batch)


def maps(
    tx: Chain, curvature: ArrayLike, *, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """J of each step, and how far off the chain is from it; can be mapped and jitted.

    Off are steps from far and near in proportion to where they begin, NaN and inf
    where there is no Jacobian or a number that was left out of it has felt the point.
    """
    varied, fixed = parted(begun(tx, jnp.float32(1)))
    x, unravel = ravel_pytree(varied)
    step = step_of(tx, curvature)

    def along(fixed, number):
        def move(x_M):
            carry = joined(unravel(x_M[:-1]), fixed)
            (params, state), seen = step(carry, number, x_M[-1])
            varied, later = parted((params, state))
            return jnp.append(ravel_pytree(varied)[0], seen), later

        J_NM = jax.jacfwd(lambda x_M: move(x_M)[0])(jnp.zeros(x.size + 1))
        key = jax.random.fold_in(jax.random.key(1), number)
        x_PM = jax.random.normal(key, (3, x.size + 1))
        x_PM *= jnp.array([[0.0], [1.0], [1e3]])
        x_PN, later = jax.vmap(move)(x_PM)
        off = jnp.abs(x_PN - jnp.einsum("PM,NM->PN", x_PM, J_NM)).max(1)
        felt = [jnp.any(each != each[0]) for each in jax.tree.leaves(later)]
        off = jnp.max(off / jnp.maximum(jnp.abs(x_PM).max(1), 1e-9))
        off = jnp.where(jnp.any(jnp.array([False, *felt])), jnp.inf, off)
        return jax.tree.map(lambda each: each[0], later), (J_NM, off)

    return jax.lax.scan(along, fixed, jnp.arange(num_steps))[1]


def numbers_at(tx: Chain, start: jax.Array) -> jax.Array:
    """The N numbers before the first step, and what is evaluated there."""
    params, state = begun(tx, start)
    x = ravel_pytree(parted((params, state))[0])[0]
    return jnp.append(x, seen_in(params, state))


def refuse(fault_TD: ArrayLike) -> None:
    """Raises ValueError where `maps` found a step that is not linear."""
    fault_T = np.max(np.asarray(fault_TD), axis=1)
    bad = np.flatnonzero(~(fault_T <= ROUNDING))  # and NaN
    if bad.size:
        raise ValueError(
            f"The chain is not linear: step {bad[0]} is off by {fault_T[bad[0]]:.2g} "
            "of where it begins."
        )


def propagated(
    J_TDNM: ArrayLike,
    x_DN: ArrayLike,
    *,
    curvature: ArrayLike,
    noise: ArrayLike,
    batch: ArrayLike,
) -> np.ndarray:
    """The expected loss of each moment, summed over directions, in float64.

    Axes between T and D, and before D, are of independent chains, and stay.
    """
    J = np.asarray(J_TDNM, np.float64)
    mean = np.asarray(x_DN, np.float64)
    mean = np.broadcast_to(mean, J.shape[1:-1]).copy()
    spread = np.zeros((*mean.shape, mean.shape[-1]))
    h_D = np.asarray(curvature, np.float64)
    losses = []
    for t in range(len(J) + 1):
        loss = h_D * (mean[..., -1] ** 2 + spread[..., -1, -1]) / 2
        losses.append(loss.sum(-1))
        if t < len(J):
            variance = np.asarray(noise) / np.broadcast_to(batch, len(J))[t]
            # Where that which is seen was, there is now the noise of this step.
            mean[..., -1] = spread[..., -1, :] = spread[..., :, -1] = 0
            spread[..., -1, -1] = variance
            mean = (J[t] @ mean[..., None])[..., 0]
            spread = J[t] @ spread @ J[t].mT
    return np.stack(losses)


def replicas(
    tx: Chain,
    *,
    curvature: float,
    noise: float,
    batch: ArrayLike,
    start: float,
    num_steps: int,
    num_replicas: int = 20_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss of many runs, at the moments of `exact_curve`, and its error."""
    step, R = step_of(tx, curvature), num_replicas
    unit_TR = np.random.default_rng(seed).standard_normal((num_steps, R), np.float32)
    spread_T = np.sqrt(noise / np.broadcast_to(batch, num_steps))

    def along(carry, now):
        return jax.vmap(step, (0, None, 0))(carry, *now)

    @jax.jit
    def run(start_R, noise_TR):
        first = jax.vmap(partial(begun, tx))(start_R)
        return jax.lax.scan(along, first, (jnp.arange(num_steps), noise_TR))[1]

    start_R = np.full(R, start, np.float32)
    noise_TR = (spread_T[:, None] * unit_TR).astype(np.float32)
    seen_TR = np.vstack([start_R, run(start_R, noise_TR)]).astype(np.float64)
    loss_TR = curvature * seen_TR**2 / 2
    return loss_TR.mean(1), loss_TR.std(1) / np.sqrt(R)


def step_of(tx: Chain, curvature: ArrayLike) -> Callable[..., tuple[Tree, jax.Array]]:
    """A step of training, of parameters and state, its number and its noise."""

    def step(carry, number, noise):
        params, state = carry

        def value_fn(params):
            return curvature * params[LEAF][0, 0] ** 2 / 2 + noise * params[LEAF][0, 0]

        def grad_fn(params):
            return jax.tree.map(lambda w: curvature * w + noise, params)

        extra: dict[str, Any] = dict(value_fn=value_fn, grad_fn=grad_fn)
        extra |= dict(value=value_fn(params), step=number)
        extra |= dict(key=jax.random.fold_in(jax.random.key(2), number))
        updates, state = tx.update(grad_fn(params), state, params, **extra)
        params = optax.apply_updates(params, updates)
        return (params, state), seen_in(params, state)

    return step


def begun(tx: Chain, start: jax.Array) -> Tree:
    """Parameters and state before the first step."""
    params = {LEAF: jnp.asarray(start, jnp.float32).reshape(1, 1)}
    return params, tx.init(params)


def seen_in(params: Tree, state: Tree) -> jax.Array:
    """What is evaluated."""
    return optim.eval_params(state, params)[LEAF][0, 0]


def parted(tree: Tree) -> tuple[Tree, Tree]:
    """The arrays of floats, and the scalars and integers; each with None for others."""

    def varies(leaf):
        return leaf.ndim > 0 and jnp.issubdtype(leaf.dtype, jnp.floating)

    return (
        jax.tree.map(lambda leaf: leaf if varies(leaf) else None, tree),
        jax.tree.map(lambda leaf: None if varies(leaf) else leaf, tree),
    )


def joined(varied: Tree, fixed: Tree) -> Tree:
    """The tree of which these are the parts."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, varied, fixed, is_leaf=lambda x: x is None
    )
