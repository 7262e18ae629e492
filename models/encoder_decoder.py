"""The encoder-decoder Transformer.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. It departs from it where
the config says so (`norm="pre"`), and in that linear layers have no biases.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from core.registry import Range
from core.types import Number
from models import packing
from models.attention import Memory
from models.block import Glimpse, Settings, Sight, Stack
from models.dropout import Dropout, Generator

RANGES = {
    "width": Range("[1, inf)"),
    "num_heads": Range("[1, inf)"),
    "num_encoder_layers": Range("[1, inf)"),
    "num_decoder_layers": Range("[1, inf)"),
    "mlp_width": Range("[1, inf)"),
    "dropout": Range("[0, 1)", neutral=0.0),
    "attention_dropout": Range("[0, 1)", neutral=0.0),
    "mlp_dropout": Range("[0, 1)", neutral=0.0),
    "unroll": Range("[1, inf)"),
}

START = 3  # the token that a decoder reads before its first


def check(*, width: int, num_heads: int, **_) -> None:
    """Raises ValueError unless the heads share the width."""
    if width % num_heads:
        raise ValueError(
            f"model.num_heads={num_heads} must divide model.width, which is {width}."
        )


class Cache(NamedTuple):
    """What decoding keeps of B sources and L continuations of each.

    T is its room, and S = T * L the slots of the past: token t of continuation l is
    written to slot t * L + l and never moves. When continuations change places, only
    the lists of their ancestors do; which slots each may look at follows from them.
    """

    pasts: tuple[Memory, ...]
    memories: tuple[Memory, ...]
    visible_BM: Bool[Array, "B M"]
    ancestor_BLT: Int[Array, "B L T"]
    place: Int[Array, ""]

    def reorder(self, index_BL: Int[Array, "B L"]) -> "Cache":
        """Continuation l of each row becomes that which was number `index_BL[:, l]`."""
        ancestor_BLT = jnp.take_along_axis(
            self.ancestor_BLT, index_BL[:, :, None], axis=1
        )
        return self._replace(ancestor_BLT=ancestor_BLT)


class EncoderDecoder(nn.Module):
    """Tied embeddings, sinusoidal places, packed rows (see `models/packing.py`).

    `dropout` is that of the paper, section 5.4: of each layer's output before it is
    added, and of the embeddings. Two more places have a rate of their own: the weights
    of attention, and what the MLP's ReLU gives.
    """

    vocab: int
    width: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    mlp_width: int
    norm: Literal["pre", "post"] = "pre"
    dropout: Number = 0.0
    attention_dropout: Number = 0.0
    mlp_dropout: Number = 0.0
    generator: Generator = "hash"
    dtype: Literal["float32", "bfloat16"] = "float32"
    unroll: int = 1  # layers compiled side by side: faster, and longer to compile

    def setup(self):
        settings = Settings(
            width=self.width,
            num_heads=self.num_heads,
            mlp_width=self.mlp_width,
            norm=self.norm,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            mlp_dropout=self.mlp_dropout,
            generator=self.generator,
            dtype=jnp.dtype(self.dtype),
            unroll=self.unroll,
        )
        init = nn.initializers.normal(self.width**-0.5)
        self.embed = self.param("embed", init, (self.vocab, self.width))
        self.encoder = Stack(self.num_encoder_layers, settings)
        self.decoder = Stack(self.num_decoder_layers, settings, cross=True)
        self.drop = Dropout(self.dropout, self.generator)

    def __call__(
        self,
        source_BM: Int[Array, "B M"],
        source_segment_BM: Int[Array, "B M"],
        target_BL: Int[Array, "B L"],
        target_segment_BL: Int[Array, "B L"],
        *,
        train: bool,
    ) -> Float[Array, "B L V"]:
        """Logits of every token of `target_BL`, each from those before it."""
        memory_BMD = self.encode(source_BM, source_segment_BM, train=train)
        sight = Sight(
            packing.visible(target_segment_BL, target_segment_BL, causal=True),
            memory_BMD,
            packing.visible(target_segment_BL, source_segment_BM),
        )
        input_BL = packing.shifted(target_BL, target_segment_BL, START)
        x_BLD = self._embed(input_BL, packing.places(target_segment_BL))
        x_BLD = self.decoder(self.drop(x_BLD, train=train), sight, train=train)
        return self._logits(x_BLD)

    def encode(
        self,
        source_BM: Int[Array, "B M"],
        source_segment_BM: Int[Array, "B M"],
        *,
        train: bool,
    ) -> Float[Array, "B M D"]:
        """What the decoder attends to."""
        x_BMD = self._embed(source_BM, packing.places(source_segment_BM))
        sight = Sight(packing.visible(source_segment_BM, source_segment_BM))
        return self.encoder(self.drop(x_BMD, train=train), sight, train=train)

    def start(
        self,
        source_BM: Int[Array, "B M"],
        source_segment_BM: Int[Array, "B M"],
        *,
        beams: int,
        room: int,
    ) -> Cache:
        """Reads the sources, one a row; makes room for `room` tokens of each beam."""
        memory_BMD = self.encode(source_BM, source_segment_BM, train=False)
        B, H, S = len(source_BM), self.num_heads, room * beams
        K = self.width // H
        empty = Memory(
            jnp.zeros((B, H, K, S), self.dtype), jnp.zeros((B, H, S, K), self.dtype)
        )
        return Cache(
            pasts=(empty,) * self.num_decoder_layers,
            memories=self.decoder.memorize(memory_BMD),
            visible_BM=source_segment_BM > 0,
            ancestor_BLT=jnp.zeros((B, beams, room), jnp.int32),
            place=jnp.int32(0),
        )

    def extend(
        self, token_BL: Int[Array, "B L"], cache: Cache
    ) -> tuple[Float[Array, "B L V"], Cache]:
        """Reads one token of each of the L continuations; logits of the next."""
        B, L, T = cache.ancestor_BLT.shape
        M = cache.visible_BM.shape[1]
        self_BL1 = jnp.broadcast_to(jnp.arange(L)[None, :, None], (B, L, 1))
        ancestor_BLT = jax.lax.dynamic_update_slice_in_dim(
            cache.ancestor_BLT, self_BL1, cache.place, axis=2
        )
        visible_BLTL = ancestor_BLT[..., None] == jnp.arange(L)[None, None, None]
        visible_BLTL &= (jnp.arange(T) <= cache.place)[None, None, :, None]
        glimpse = Glimpse(
            slot=cache.place * L,
            visible_BLS=visible_BLTL.reshape(B, L, T * L),
            visible_BLM=jnp.broadcast_to(cache.visible_BM[:, None], (B, L, M)),
        )
        x_BLD = self._embed(token_BL, jnp.full((B, L), cache.place), room=T)
        x_BLD, pasts = self.decoder.extend(x_BLD, cache.pasts, cache.memories, glimpse)
        cache = cache._replace(
            pasts=pasts, ancestor_BLT=ancestor_BLT, place=cache.place + 1
        )
        return self._logits(x_BLD), cache

    def _embed(self, token_BL, place_BL, room: int | None = None):
        """sqrt(D) times the embedding, so of the size of the sinusoids, plus these."""
        table_LD = jnp.asarray(packing.sinusoids(room or token_BL.shape[1], self.width))
        x_BLD = self.embed[token_BL] * self.width**0.5 + table_LD[place_BL]
        return x_BLD.astype(self.dtype)

    def _logits(self, x_BLD):
        embed_VD = self.embed.astype(x_BLD.dtype)
        return jnp.einsum(
            "BLD,VD->BLV", x_BLD, embed_VD, preferred_element_type=jnp.float32
        )
