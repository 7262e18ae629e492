"""What decoding keeps of B texts and L continuations of each, for every family."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.attend.mask import Rule
from models.attention import Glance, Memory
from models.block import Glimpse, Stack


class Cache(NamedTuple):
    """Slots of the past: P of a prompt, which lies at their end, then T * L of what
    follows it.

    T is the room. Token t of continuation l is written to slot P + t * L + l and never
    moves. When continuations change places, only the lists of their ancestors do; which
    slots each may look at follows from them. `memories` are those of another text, if
    there is one, and `visible_BM` says where it has tokens.
    """

    pasts: tuple[Memory, ...]
    memories: tuple[Memory | None, ...]
    visible_BM: Bool[Array, "B M"] | None
    prompt_BP: Bool[Array, "B P"]
    ancestor_BLT: Int[Array, "B L T"]
    time: Int[Array, ""]

    def reorder(self, index_BL: Int[Array, "B L"]) -> "Cache":
        """Continuation l of each row becomes that which was number `index_BL[:, l]`."""
        ancestor_BLT = jnp.take_along_axis(
            self.ancestor_BLT, index_BL[:, :, None], axis=1
        )
        return self._replace(ancestor_BLT=ancestor_BLT)

    @property
    def place_BL(self) -> Int[Array, "B L"]:
        """The place of the token that is read next."""
        B, L, _ = self.ancestor_BLT.shape
        place_B1 = self.prompt_BP.sum(1, keepdims=True) + self.time
        return jnp.broadcast_to(place_B1, (B, L))


def make_cache(
    prompts: tuple[Memory, ...],
    prompt_BP: Bool[Array, "B P"],
    *,
    beams: int,
    room: int,
    memories: tuple[Memory | None, ...] = (),
    visible_BM: Bool[Array, "B M"] | None = None,
) -> Cache:
    """With room for `room` tokens of each of `beams` continuations of the prompts."""
    new = room * beams
    pasts = tuple(
        Memory(
            jnp.pad(past.key_BGKM, ((0, 0), (0, 0), (0, 0), (0, new))),
            jnp.pad(past.value_BGMK, ((0, 0), (0, 0), (0, new), (0, 0))),
        )
        for past in prompts
    )
    return Cache(
        pasts=pasts,
        memories=memories or (None,) * len(pasts),
        visible_BM=visible_BM,
        prompt_BP=prompt_BP,
        ancestor_BLT=jnp.zeros((len(prompt_BP), beams, room), jnp.int32),
        time=jnp.int32(0),
    )


def step(
    stack: Stack, x_BLD: Float[Array, "B L D"], cache: Cache, rule: Rule
) -> tuple[Float[Array, "B L D"], Cache]:
    """Reads one token of each of the L continuations, each seeing its own past."""
    B, L, T = cache.ancestor_BLT.shape
    P = cache.prompt_BP.shape[1]
    self_BL1 = jnp.broadcast_to(jnp.arange(L)[None, :, None], (B, L, 1))
    ancestor_BLT = jax.lax.dynamic_update_slice_in_dim(
        cache.ancestor_BLT, self_BL1, cache.time, axis=2
    )
    own_BLTL = ancestor_BLT[..., None] == jnp.arange(L)[None, None, None]
    own_BLTL &= (jnp.arange(T) <= cache.time)[None, None, :, None]
    prompt_BLP = jnp.broadcast_to(cache.prompt_BP[:, None], (B, L, P))
    visible_BLS = jnp.concatenate([prompt_BLP, own_BLTL.reshape(B, L, T * L)], axis=2)

    in_row_S = jnp.concatenate([jnp.arange(P), P + jnp.repeat(jnp.arange(T), L)])
    empty_B1 = P - cache.prompt_BP.sum(1, keepdims=True)
    visible_BLS &= rule.allows(cache.place_BL, in_row_S[None] - empty_B1)
    past = stack.glance(visible_BLS, in_row_S, P + cache.time, cache.place_BL)

    memory = None
    if cache.visible_BM is not None:
        M = cache.visible_BM.shape[1]
        memory = Glance(jnp.broadcast_to(cache.visible_BM[:, None], (B, L, M)))
    glimpse = Glimpse(P + cache.time * L, past, memory)
    x_BLD, pasts = stack.extend(x_BLD, cache.pasts, cache.memories, glimpse)
    cache = cache._replace(pasts=pasts, ancestor_BLT=ancestor_BLT, time=cache.time + 1)
    return x_BLD, cache
