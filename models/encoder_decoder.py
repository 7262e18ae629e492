"""The encoder-decoder Transformer.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; Raffel et al. 2019 (T5),
https://arxiv.org/abs/1910.10683; Lewis et al. 2019 (BART),
https://arxiv.org/abs/1910.13461. Embeddings are shared by the two stacks, as in all
three. It departs from T5 in that queries are scaled by 1 / sqrt(K) and not at their
initialisation.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from models import packing, settings
from models.attend.mask import Mask, Rule
from models.attention import Memory
from models.block import Mode, Sight, Stack
from models.cache import Cache, make_cache, step
from models.embedding import Embedding, Entrance
from models.readout import Readout
from models.settings import Settings
from models.start import starts_of

START = 3  # the token that a decoder reads before its first


class EncoderDecoder(Settings, nn.Module, kw_only=True):
    """Packed rows (see `models/packing.py`): the pairs of a row share a number."""

    vocab: int
    num_encoder_layers: int
    num_decoder_layers: int

    def setup(self):
        s = self.settings
        one, other = starts_of(s, self.num_encoder_layers, self.num_decoder_layers)
        self.embedding = Embedding(s, self.vocab)
        self.encoder_entrance = Entrance(s)
        self.encoder = Stack(self.num_encoder_layers, s, one)
        self.decoder_entrance = Entrance(s)
        self.decoder = Stack(self.num_decoder_layers, s, other, cross=True, causal=True)

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
        x_BLD, readout = self.features(
            source_BM, source_segment_BM, target_BL, target_segment_BL, train=train
        )
        return readout(x_BLD)

    def features(
        self,
        source_BM: Int[Array, "B M"],
        source_segment_BM: Int[Array, "B M"],
        target_BL: Int[Array, "B L"],
        target_segment_BL: Int[Array, "B L"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "B L D"], Readout]:
        """What logits are read from, and how."""
        memory_BMD = self.encode(source_BM, source_segment_BM, train=train)
        source_place_BM = packing.places(source_segment_BM)
        place_BL = packing.places(target_segment_BL)
        own = (target_segment_BL, place_BL)
        sight = Sight(
            Mode(train),
            Mask(*own, *own, rule=self.rule(causal=True)),
            memory_BMD=memory_BMD,
            memory_mask=Mask(*own, source_segment_BM, source_place_BM, rule=Rule()),
        )
        input_BL = packing.shifted(target_BL, target_segment_BL, START)
        x_BLD = self.decoder_entrance(
            self.embedding(input_BL), place_BL, room=input_BL.shape[1], train=train
        )
        x_BLD = self.embedding.scaled(self.decoder(x_BLD, sight))
        return x_BLD, self.embedding.readout()

    def encode(
        self,
        source_BM: Int[Array, "B M"],
        source_segment_BM: Int[Array, "B M"],
        *,
        train: bool,
    ) -> Float[Array, "B M D"]:
        """What the decoder attends to."""
        place_BM = packing.places(source_segment_BM)
        own = (source_segment_BM, place_BM)
        sight = Sight(Mode(train), Mask(*own, *own, rule=self.rule(causal=False)))
        x_BMD = self.encoder_entrance(
            self.embedding(source_BM), place_BM, room=source_BM.shape[1], train=train
        )
        return self.encoder(x_BMD, sight)

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
        B, dtype = len(source_BM), memory_BMD.dtype
        empty = Memory(
            jnp.zeros((B, self.G, self.K, 0), dtype),
            jnp.zeros((B, self.G, 0, self.K), dtype),
        )
        return make_cache(
            (empty,) * self.num_decoder_layers,
            jnp.zeros((B, 0), bool),
            beams=beams,
            room=room,
            memories=self.decoder.memorize(memory_BMD),
            visible_BM=source_segment_BM > 0,
        )

    def extend(
        self, token_BL: Int[Array, "B L"], cache: Cache
    ) -> tuple[Float[Array, "B L V"], Cache]:
        """Reads one token of each of the L continuations; logits of the next."""
        room = cache.ancestor_BLT.shape[2]
        x_BLD = self.decoder_entrance(
            self.embedding(token_BL), cache.place_BL, room=room, train=False
        )
        x_BLD, cache = step(self.decoder, x_BLD, cache, self.rule(causal=True))
        return self.embedding.readout()(self.embedding.scaled(x_BLD)), cache


def check(*, num_encoder_layers: int, num_decoder_layers: int, **words) -> None:
    """Raises ValueError for words that do not go together, in one line."""
    del num_encoder_layers, num_decoder_layers
    settings.check(Settings(**words), causal=True)
