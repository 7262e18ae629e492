"""Greedy search: the likeliest token, every time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from core.types import Number
from models.decode.score import Extend, Found, normalized


class State(NamedTuple):
    """The loop's: texts so far, what of them goes on, and the sum of log p."""

    place: Int[Array, ""]
    last_B: Int[Array, "B"]
    token_BT: Int[Array, "B T"]
    logp_B: Float[Array, "B"]
    length_B: Int[Array, "B"]
    going_B: Bool[Array, "B"]
    cache: Any


def search(
    extend: Extend,
    cache: Any,
    *,
    batch_size: int,
    max_length: int,
    length_penalty: Number,
    start: int,
    end: int,
) -> Found:
    """One text a row. Stops when every row has ended."""
    B, T = batch_size, max_length

    def step(state: State) -> State:
        logit_BLV, cache = extend(state.last_B[:, None], state.cache)
        logit_BV = logit_BLV[:, 0]
        gain_B, token_B = _likeliest(logit_BV)
        token_B = jnp.where(state.going_B, token_B, 0)
        return State(
            place=state.place + 1,
            last_B=token_B,
            token_BT=jax.lax.dynamic_update_slice_in_dim(
                state.token_BT, token_B[:, None], state.place, axis=1
            ),
            logp_B=state.logp_B + jnp.where(state.going_B, gain_B, 0),
            length_B=state.length_B + state.going_B,
            going_B=state.going_B & (token_B != end),
            cache=cache,
        )

    def more(state: State) -> Bool[Array, ""]:
        return (state.place < T) & state.going_B.any()

    first = State(
        place=jnp.int32(0),
        last_B=jnp.full(B, start, jnp.int32),
        token_BT=jnp.zeros((B, T), jnp.int32),
        logp_B=jnp.zeros(B),
        length_B=jnp.zeros(B, jnp.int32),
        going_B=jnp.ones(B, bool),
        cache=cache,
    )
    last = jax.lax.while_loop(more, step, first)
    score_B = normalized(last.logp_B, last.length_B, length_penalty)
    return Found(last.token_BT[:, None], score_B[:, None])


def _likeliest(logit_BV):
    """log p and number of the first of the likeliest tokens.

    (Two plain reductions: XLA's argmax is several times slower on a CPU.)
    """
    V = logit_BV.shape[1]
    most_B1 = logit_BV.max(1, keepdims=True)
    at_BV = jnp.where(logit_BV == most_B1, jnp.arange(V)[None], V)
    return -jnp.log(jnp.exp(logit_BV - most_B1).sum(1)), at_BV.min(1, initial=V - 1)
