"""An outer Nesterov momentum on what many steps did together, as in DiLoCo."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.types import Number
from optim import walk
from optim.rules import descent


class NesterovState(NamedTuple):
    """Where the last outer step led, its momentum, and how many there were."""

    chain: PyTree
    start: PyTree
    outer: PyTree
    periods: Array


def nesterov(
    *,
    every_steps: int = 500,
    rate: Number = 0.7,
    momentum: Number = 0.9,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """After every `every_steps` steps of the chain, one of SGD on where they led.

    d <- start - w;  m <- momentum m + d
    w <- start - rate (d + momentum m);  start <- w

    DiLoCo with one worker; the defaults are the paper's, for eight. The outer step is
    that of PyTorch's SGD with `nesterov`. Evaluated are the parameters, within a
    period too. With every_steps = 1, rate = 1 and momentum = 0 it is the chain itself,
    to the bit; without momentum it walks as `lookahead` does, with `rate` for share.
    `rate` lies in (0, inf), `momentum` in [0, 1).
    Source: Douillard et al. 2023, https://arxiv.org/abs/2311.08105, algorithm 1.
    """
    sgd = descent.sgd(momentum=momentum, nesterov=True)

    def init(params: PyTree) -> NesterovState:
        start = walk.copied(params)
        return NesterovState(tx.init(params), start, sgd.init(params), jnp.int32(0))

    def update(updates, state, params=None, **extra):
        updates, chain = tx.update(updates, state.chain, params, **extra)
        periods = walk.periods(extra["step"], every_steps)
        due = periods > state.periods
        back = jax.tree.map(jnp.subtract, state.start, params)
        descended = jax.tree.map(jnp.subtract, back, updates)
        direction, outer = sgd.update(descended, state.outer)
        leap = jax.tree.map(lambda b, d: b - rate * d, back, direction)
        updates = walk.either(due, leap, updates)
        start = walk.either(due, walk.landed(params, updates), state.start)
        outer = walk.either(due, outer, state.outer)
        return updates, NesterovState(chain, start, outer, periods)

    return optax.GradientTransformationExtraArgs(init, update)
