"""Lookahead: k steps forward, one step back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.types import Number
from optim import walk


class LookaheadState(NamedTuple):
    """Where the last look ahead began, and how many there were."""

    chain: PyTree
    slow: PyTree
    periods: Array

    def averaged(self, params: PyTree) -> PyTree:
        """The slow weights, which are the paper's result."""
        del params
        return self.slow


def lookahead(
    *,
    every_steps: int = 5,
    share: Number = 0.5,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """After every `every_steps` steps of the chain, back to a `share` of the way.

    slow <- slow + share (w - slow);  w <- slow

    The rule's moments go on as they are, which the paper has as its plain variant.
    Evaluated are the slow weights. With share = 1 training is the chain's own.
    `share` (the paper's alpha) lies in (0, 1].
    Source: Zhang et al. 2019, https://arxiv.org/abs/1907.08610, algorithm 1.
    optax.lookahead wants pairs of parameters in place of parameters.
    """

    def init(params: PyTree) -> LookaheadState:
        return LookaheadState(tx.init(params), walk.copied(params), jnp.int32(0))

    def update(updates, state, params=None, **extra):
        updates, chain = tx.update(updates, state.chain, params, **extra)
        periods = walk.periods(extra["step"], every_steps)
        due = periods > state.periods

        def back(u, w, slow):
            return share * (u + (w - slow)) - (w - slow)

        pulled = jax.tree.map(back, updates, params, state.slow)
        updates = walk.either(due, pulled, updates)
        slow = walk.either(due, walk.landed(params, updates), state.slow)
        return updates, LookaheadState(chain, slow, periods)

    return optax.GradientTransformationExtraArgs(init, update)
