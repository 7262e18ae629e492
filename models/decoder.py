"""The decoder-only Transformer: causal, or reading a prefix both ways.

Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023 (Llama),
https://arxiv.org/abs/2302.13971; prefix: Raffel et al. 2019 (T5),
https://arxiv.org/abs/1910.10683, section 3.2.1.
"""

from flax import linen as nn
from jaxtyping import Array, Float, Int

from models import packing, settings
from models.attend.mask import Mask
from models.block import Mode, Sight, Stack
from models.cache import Cache, make_cache, step
from models.embedding import Embedding, Entrance
from models.readout import Readout
from models.settings import Settings
from models.start import start_of


class Decoder(Settings, nn.Module, kw_only=True):
    """Packed rows (see `models/packing.py`); a token is predicted from those before."""

    vocab: int
    num_layers: int
    prefix: bool = False  # a prompt is read both ways

    def setup(self):
        s = self.settings
        start = start_of(s, self.num_layers, cross=False)
        self.embedding = Embedding(s, self.vocab)
        self.entrance = Entrance(s)
        self.decoder = Stack(self.num_layers, s, start, causal=True)

    def __call__(
        self,
        input_BL: Int[Array, "B L"],
        segment_BL: Int[Array, "B L"],
        prefix_BL: Int[Array, "B L"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "B L V"]:
        """Logits of what follows each token of `input_BL`."""
        x_BLD, readout = self.features(input_BL, segment_BL, prefix_BL, train=train)
        return readout(x_BLD)

    def features(
        self,
        input_BL: Int[Array, "B L"],
        segment_BL: Int[Array, "B L"],
        prefix_BL: Int[Array, "B L"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "B L D"], Readout]:
        """What logits are read from, and how. `prefix_BL` is 1 in a prompt."""
        x_BLD, sight = self._enter(input_BL, segment_BL, prefix_BL, train)
        x_BLD = self.embedding.scaled(self.decoder(x_BLD, sight))
        return x_BLD, self.embedding.readout()

    def start(
        self,
        token_BP: Int[Array, "B P"],
        segment_BP: Int[Array, "B P"],
        *,
        beams: int,
        room: int,
    ) -> Cache:
        """Reads prompts, which lie at the end of their rows, behind segment 0."""
        x_BPD, sight = self._enter(token_BP, segment_BP, segment_BP, False)
        _, pasts = self.decoder.read(x_BPD, sight)
        return make_cache(pasts, segment_BP > 0, beams=beams, room=room)

    def extend(
        self, token_BL: Int[Array, "B L"], cache: Cache
    ) -> tuple[Float[Array, "B L V"], Cache]:
        """Reads one token of each of the L continuations; logits of the next."""
        room = cache.prompt_BP.shape[1] + cache.ancestor_BLT.shape[2]
        x_BLD = self.entrance(
            self.embedding(token_BL), cache.place_BL, room=room, train=False
        )
        x_BLD, cache = step(self.decoder, x_BLD, cache, self.rule(causal=True))
        return self.embedding.readout()(self.embedding.scaled(x_BLD)), cache

    def _enter(self, token_BL, segment_BL, prefix_BL, train: bool):
        place_BL = packing.places(segment_BL)
        own, prefix = (segment_BL, place_BL), None
        if self.prefix and prefix_BL is not None:
            prefix = prefix_BL > 0
        mask = Mask(*own, *own, prefix, self.rule(causal=True))
        x_BLD = self.entrance(
            self.embedding(token_BL), place_BL, room=token_BL.shape[1], train=train
        )
        return x_BLD, Sight(Mode(train), mask)


def check(*, num_layers: int, prefix: bool = False, **words) -> None:
    """Raises ValueError for words that do not go together, in one line."""
    del num_layers
    settings.check(Settings(**words), causal=True, prefix=prefix)
