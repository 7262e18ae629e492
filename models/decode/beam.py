"""Beam search that stops as soon as nothing can change its result.

Source: Wu et al. 2016 (GNMT), https://arxiv.org/abs/1609.08144, section 7. It departs
from it in three points: nothing is pruned by its distance from the best; a text ends
only where its end is among the `beam` best candidates (as in fairseq and Hugging Face,
so that one beam without length penalty is greedy search); and it stops by a bound, not
by a count of finished texts.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from core.registry import Range
from core.types import Number
from models.decode.score import normalized
from models.decode.terms import END, LIMITS, PAD, Extend, Found, Limits, Opening

RANGES = {
    **LIMITS,
    "beam": Range("[1, inf)"),
    "num_best": Range("[1, inf)"),
    "length_penalty": Range("[0, inf)"),
}


def check(*, beam: int = 4, num_best: int = 1, **_) -> None:
    """Raises ValueError unless the beam holds as many texts as are wanted."""
    if num_best > beam:
        raise ValueError(
            f"decode.num_best={num_best} must be at most decode.beam, which is {beam}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beam(Limits):
    """The `num_best` best texts of each row, best first, of those that `beam` finds.

    Where fewer have ended in time, the best that have not follow them. The score is
    log p / ((5 + length) / 6)^length_penalty. The cache needs `reorder(index_BL)`.
    """

    beam: int = 4
    num_best: int = 1
    length_penalty: Number = 0.6

    @property
    def beams(self) -> int:
        """See `Method`."""
        return self.beam

    def search(
        self, extend: Extend, opening: Opening, key_B: Any, *, room: int
    ) -> tuple[Found, Any]:
        """See `Method`."""
        del key_B  # nothing is drawn
        T, length_penalty = room, self.length_penalty

        def step(state: State) -> State:
            logit_BLV, cache = extend(state.last_BL, state.cache)
            ending_BL, going_BL, parent_BL, token_BL = _candidates(
                logit_BLV, state.logp_BL
            )
            ended = _collect(state, ending_BL, length_penalty)
            token_BLT = jnp.take_along_axis(
                state.token_BLT, parent_BL[:, :, None], axis=1
            )
            return State(
                place=state.place + 1,
                token_BLT=jax.lax.dynamic_update_slice_in_dim(
                    token_BLT, token_BL[:, :, None], state.place, axis=2
                ),
                last_BL=token_BL,
                logp_BL=going_BL,
                ended=ended,
                cache=cache.reorder(parent_BL),
            )

        def more(state: State) -> Bool[Array, ""]:
            # log p only falls, so the most a text may still reach is what it has,
            # divided by the largest divisor ahead: the last one, or the next if the
            # penalty is negative.
            logp_B = state.logp_BL.max(1)
            reach_B = jnp.maximum(
                normalized(logp_B, jnp.int32(T), length_penalty),
                normalized(logp_B, state.place + 1, length_penalty),
            )
            return (state.place < T) & (reach_B > state.ended.score_BR.min(1)).any()

        last = jax.lax.while_loop(more, step, self._first(opening, T))
        return _fill(last, length_penalty), last.cache

    def _first(self, opening: Opening, T: int) -> "State":
        B, L, R = len(opening.first_B), self.beam, self.num_best
        return State(
            place=jnp.int32(0),
            token_BLT=jnp.full((B, L, T), PAD, jnp.int32),
            last_BL=jnp.broadcast_to(opening.first_B[:, None], (B, L)),
            # All start alike, so only one of them counts at first.
            logp_BL=jnp.tile(jnp.where(jnp.arange(L) == 0, 0.0, -jnp.inf), (B, 1)),
            ended=Found(
                jnp.full((B, R, T), PAD, jnp.int32), jnp.full((B, R), -jnp.inf)
            ),
            cache=opening.cache,
        )


class State(NamedTuple):
    """The loop's: `beam` texts that go on, and the best that have ended.

    A place that no text has taken yet has the score -inf.
    """

    place: Int[Array, ""]
    token_BLT: Int[Array, "B L T"]
    last_BL: Int[Array, "B L"]
    logp_BL: Float[Array, "B L"]
    ended: Found
    cache: Any


def _candidates(logit_BLV, logp_BL):
    """log p of each text if it ends here (-inf where it may not), and of the L best
    that go on, with their parents and tokens.

    Of all logits only groups' maxima and one sum are taken: they are most of the bytes.
    """
    B, L, V = logit_BLV.shape
    S = max(size for size in range(1, 2 * math.isqrt(V) + 1) if V % size == 0)
    most_BLG = logit_BLV.reshape(B, L, V // S, S).max(-1)
    top_BL1 = most_BLG.max(-1, keepdims=True)
    total_BL = jnp.exp(logit_BLV - top_BL1).sum(-1)
    base_BL = logp_BL - top_BL1[..., 0] - jnp.log(total_BL)

    ending_BL = base_BL + logit_BLV[:, :, END]
    going_BL, parent_BL, token_BL = _going(logit_BLV, base_BL, most_BLG)
    both = jnp.concatenate([ending_BL, going_BL], axis=1)
    worst_B1 = jnp.sort(both, axis=1)[:, -ending_BL.shape[1], None]
    ending_BL = jnp.where(ending_BL >= worst_B1, ending_BL, -jnp.inf)
    return ending_BL, going_BL, parent_BL, token_BL


def _going(logit_BLV, base_BL, most_BLG):
    """The L best of base + logit over all tokens but the end; their parents and tokens.

    The vocabulary is cut into G groups of S tokens; `most_BLG` are the largest logits.
    The L best tokens lie in the L groups of the largest, so only these are sorted.
    """
    B, L, V = logit_BLV.shape
    G = most_BLG.shape[2]
    S = V // G
    first = END // S * S  # of the group that the end is in, and does not count in
    beside_BLS = logit_BLV[:, :, first : first + S].at[:, :, END - first].set(-jnp.inf)
    most_BLG = most_BLG.at[:, :, END // S].set(beside_BLS.max(-1)) + base_BL[..., None]
    group_BL = jax.lax.top_k(most_BLG.reshape(B, L * G), L)[1]
    parent_BL, group_BL = group_BL // G, group_BL % G

    row_B11 = jnp.arange(B)[:, None, None]
    token_BLS = group_BL[..., None] * S + jnp.arange(S)[None, None]
    score_BLS = logit_BLV[row_B11, parent_BL[..., None], token_BLS]
    score_BLS += jnp.take_along_axis(base_BL, parent_BL, axis=1)[..., None]
    score_BLS = jnp.where(token_BLS == END, -jnp.inf, score_BLS)
    going_BL, index_BL = jax.lax.top_k(score_BLS.reshape(B, L * S), L)
    parent_BL = jnp.take_along_axis(parent_BL, index_BL // S, axis=1)
    token_BL = jnp.take_along_axis(token_BLS.reshape(B, L * S), index_BL, axis=1)
    return going_BL, parent_BL, token_BL


def _collect(state: State, ending_BL, length_penalty) -> Found:
    """The best of what had ended and of what ends now."""
    R = state.ended.score_BR.shape[1]
    now_BL = normalized(ending_BL, state.place + 1, length_penalty)
    now_BLT = jax.lax.dynamic_update_slice_in_dim(
        state.token_BLT, jnp.full_like(state.last_BL, END)[:, :, None], state.place, 2
    )
    score = jnp.concatenate([state.ended.score_BR, now_BL], axis=1)
    token = jnp.concatenate([state.ended.token_BRT, now_BLT], axis=1)
    score_BR, index_BR = jax.lax.top_k(score, R)
    return Found(jnp.take_along_axis(token, index_BR[:, :, None], axis=1), score_BR)


def _fill(last: State, length_penalty) -> Found:
    """What has ended; behind it, in places left over, the best that has not."""
    score_BR = last.ended.score_BR
    R = score_BR.shape[1]
    going_BL = normalized(last.logp_BL, last.place, length_penalty)
    score = jnp.concatenate([score_BR, going_BL], axis=1)
    token = jnp.concatenate([last.ended.token_BRT, last.token_BLT], axis=1)
    place_R = jnp.arange(R)[None]
    num_ended_B1 = (score_BR > -jnp.inf).sum(1, keepdims=True)
    index_BR = jnp.where(place_R < num_ended_B1, place_R, R + place_R - num_ended_B1)
    return Found(
        jnp.take_along_axis(token, index_BR[:, :, None], axis=1),
        jnp.take_along_axis(score, index_BR, axis=1),
    )
