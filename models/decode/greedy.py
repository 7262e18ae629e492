"""Greedy search: the likeliest token, every time."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.decode.terms import END, PAD, Extend, Found, Limits, Opening


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy(Limits):
    """One text a row, with its log p. Stops when every row has ended."""

    @property
    def beams(self) -> int:
        """See `Method`."""
        return 1

    def search(
        self, extend: Extend, opening: Opening, key_B: Any, *, room: int
    ) -> tuple[Found, Any]:
        """See `Method`."""
        del key_B  # nothing is drawn
        B, T = len(opening.first_B), room

        def step(state: State) -> State:
            logit_BLV, cache = extend(state.last_B[:, None], state.cache)
            gain_B, token_B = _likeliest(logit_BLV[:, 0])
            token_B = jnp.where(state.going_B, token_B, PAD)
            return State(
                place=state.place + 1,
                last_B=token_B,
                token_BT=jax.lax.dynamic_update_slice_in_dim(
                    state.token_BT, token_B[:, None], state.place, axis=1
                ),
                logp_B=state.logp_B + jnp.where(state.going_B, gain_B, 0),
                going_B=state.going_B & (token_B != END),
                cache=cache,
            )

        def more(state: State) -> Bool[Array, ""]:
            return (state.place < T) & state.going_B.any()

        first = State(
            place=jnp.int32(0),
            last_B=opening.first_B,
            token_BT=jnp.full((B, T), PAD, jnp.int32),
            logp_B=jnp.zeros(B),
            going_B=jnp.ones(B, bool),
            cache=opening.cache,
        )
        last = jax.lax.while_loop(more, step, first)
        return Found(last.token_BT[:, None], last.logp_B[:, None]), last.cache


class State(NamedTuple):
    """The loop's: texts so far, what of them goes on, and the sum of log p."""

    place: Int[Array, ""]
    last_B: Int[Array, "B"]
    token_BT: Int[Array, "B T"]
    logp_B: Float[Array, "B"]
    going_B: Bool[Array, "B"]
    cache: Any


def _likeliest(logit_BV):
    """log p and number of the first of the likeliest tokens.

    (Two plain reductions: XLA's argmax is several times slower on a CPU.)
    """
    V = logit_BV.shape[1]
    most_B1 = logit_BV.max(1, keepdims=True)
    at_BV = jnp.where(logit_BV == most_B1, jnp.arange(V)[None], V)
    return -jnp.log(jnp.exp(logit_BV - most_B1).sum(1)), at_BV.min(1, initial=V - 1)
