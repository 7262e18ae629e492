"""Sampling: each token is drawn from the model's distribution, or from part of it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from core.numbers import off
from core.registry import Range
from core.types import Number
from models.decode.filters import kept, penalized
from models.decode.terms import (
    END,
    LIMITS,
    PAD,
    START,
    Extend,
    Found,
    Limits,
    Opening,
)

RANGES = {
    **LIMITS,
    "num_samples": Range("[1, inf)"),
    "temperature": Range("[0, inf)", neutral=1.0),
    "top_k": Range("[0, inf)"),
    "top_p": Range("(0, 1]", neutral=1.0),
    "min_p": Range("[0, 1]", neutral=0.0),
    "repetition_penalty": Range("(0, inf)", neutral=1.0),
    "seed": Range("[0, 4294967296)"),
}


def check(*, temperature: float = 1.0, **_) -> None:
    """Raises ValueError where nothing would be left to chance."""
    if temperature == 0:
        raise ValueError(
            "decode.temperature=0.0 must be more than 0; "
            "decode.name='greedy' takes the likeliest token."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Limits):
    """`num_samples` texts a row in the order drawn, each with its log p in the model.

    The logits are divided by `temperature`; the other numbers are those of
    `models/decode/filters.py`, and `seed` that of the keys.
    """

    num_samples: int = 1
    temperature: Number = 1.0
    top_k: int = 0
    top_p: Number = 1.0
    min_p: Number = 0.0
    repetition_penalty: Number = 1.0
    seed: int = 0

    @property
    def beams(self) -> int:
        """See `Method`."""
        return self.num_samples

    def search(
        self, extend: Extend, opening: Opening, key_B: Any, *, room: int
    ) -> tuple[Found, Any]:
        """See `Method`. A row has a key of its own: neither rows nor mesh matter."""
        B, R, T = len(opening.first_B), self.num_samples, room
        each_R = jax.vmap(jax.random.fold_in, (None, 0))
        key_BR = jax.vmap(each_R, (0, None))(key_B, jnp.arange(R))

        def step(state: State) -> State:
            logit_BRV, cache = extend(state.last_BR, state.cache)
            token_BR = self._draw(logit_BRV, state.seen_BRV, key_BR, state.place)
            token_BR = jnp.where(state.going_BR, token_BR, PAD)
            drawn_BR = jnp.take_along_axis(logit_BRV, token_BR[..., None], 2)[..., 0]
            gain_BR = drawn_BR - jax.nn.logsumexp(logit_BRV, axis=2)
            return State(
                place=state.place + 1,
                last_BR=token_BR,
                token_BRT=jax.lax.dynamic_update_slice_in_dim(
                    state.token_BRT, token_BR[..., None], state.place, axis=2
                ),
                logp_BR=state.logp_BR + jnp.where(state.going_BR, gain_BR, 0),
                going_BR=state.going_BR & (token_BR != END),
                seen_BRV=None
                if state.seen_BRV is None
                else _with(state.seen_BRV, token_BR[..., None]),
                cache=cache,
            )

        def more(state: State) -> Bool[Array, ""]:
            return (state.place < T) & state.going_BR.any()

        last_BR = jnp.broadcast_to(opening.first_B[:, None], (B, R))
        first = State(
            place=jnp.int32(0),
            last_BR=last_BR,
            token_BRT=jnp.full((B, R, T), PAD, jnp.int32),
            logp_BR=jnp.zeros((B, R)),
            going_BR=jnp.ones((B, R), bool),
            seen_BRV=self._seen(extend, opening, last_BR),
            cache=opening.cache,
        )
        last = jax.lax.while_loop(more, step, first)
        return Found(last.token_BRT, last.logp_BR), last.cache

    def _draw(self, logit_BRV, seen_BRV, key_BR, place):
        """One token of each text."""
        B, R, V = logit_BRV.shape
        logit_BV = logit_BRV.reshape(B * R, V)
        if seen_BRV is not None:
            seen_BV = seen_BRV.reshape(B * R, V)
            logit_BV = penalized(logit_BV, seen_BV, self.repetition_penalty)
        if not off(self.temperature, 1.0):
            logit_BV = logit_BV / self.temperature
        logit_BV = kept(logit_BV, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)

        def draw(key, logit_V):
            return jax.random.categorical(jax.random.fold_in(key, place), logit_V)

        token_B = jax.vmap(draw)(key_BR.reshape(B * R), logit_BV)
        return token_B.reshape(B, R)

    def _seen(self, extend, opening, last_BR):
        """The prompts' tokens as a mask; None where nobody asks."""
        if off(self.repetition_penalty, 1.0):
            return None
        (B, R), P = last_BR.shape, opening.prompt_BP.shape[1]
        V = jax.eval_shape(extend, last_BR, opening.cache)[0].shape[2]
        prompt_BRP = jnp.broadcast_to(opening.prompt_BP[:, None], (B, R, P))
        seen_BRV = _with(jnp.zeros((B, R, V), bool), prompt_BRP)
        return seen_BRV.at[:, :, jnp.array([PAD, START, END])].set(False)


class State(NamedTuple):
    """The loop's: texts so far, what of them goes on, and the sum of log p."""

    place: Int[Array, ""]
    last_BR: Int[Array, "B R"]
    token_BRT: Int[Array, "B R T"]
    logp_BR: Float[Array, "B R"]
    going_BR: Bool[Array, "B R"]
    seen_BRV: Bool[Array, "B R V"] | None
    cache: Any


def _with(seen_BRV, token_BRP):
    """A mask with more tokens seen."""
    B, R, _ = seen_BRV.shape
    row_B11, text_1R1 = jnp.arange(B)[:, None, None], jnp.arange(R)[None, :, None]
    return seen_BRV.at[row_B11, text_1R1, token_BRP].set(True)
