"""The encoder-only Transformer.

Source: Devlin et al. 2018 (BERT), https://arxiv.org/abs/1810.04805, with the head of
its masked language model.
"""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from models import packing, settings
from models.attend.mask import Mask
from models.block import Mode, Sight, Stack
from models.embedding import SMALL, Embedding, Entrance
from models.kernel import bias, kernel
from models.mlp import activate
from models.readout import Readout
from models.settings import Settings
from models.start import start_of


class Encoder(Settings, nn.Module, kw_only=True):
    """Packed rows (see `models/packing.py`); every token sees all of its text."""

    vocab: int
    num_layers: int
    num_types: int = 0  # of text in one segment; a token's type is given beside it
    head: Literal["plain", "transform"] = "plain"

    def setup(self):
        s = self.settings
        start = start_of(s, self.num_layers, cross=False)
        self.embedding = Embedding(s, self.vocab)
        if self.num_types:
            init, shape = nn.initializers.normal(SMALL), (self.num_types, s.width)
            self.type_embed = self.param("type_embed", init, shape)
        self.entrance = Entrance(s)
        self.encoder = Stack(self.num_layers, s, start)
        if self.head == "transform":
            self.transform = Transform(s)

    def __call__(
        self,
        token_BL: Int[Array, "B L"],
        segment_BL: Int[Array, "B L"],
        type_BL: Int[Array, "B L"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "B L V"]:
        """Logits of every token, from all around it."""
        x_BLD, readout = self.features(token_BL, segment_BL, type_BL, train=train)
        return readout(x_BLD)

    def features(
        self,
        token_BL: Int[Array, "B L"],
        segment_BL: Int[Array, "B L"],
        type_BL: Int[Array, "B L"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "B L D"], Readout]:
        """What logits are read from, and how. Types are 0 where none are given."""
        place_BL = packing.places(segment_BL)
        own = (segment_BL, place_BL)
        mask = Mask(*own, *own, rule=self.rule(causal=False))
        x_BLD = self.embedding(token_BL)
        if self.num_types:
            type_BL = jnp.zeros_like(token_BL) if type_BL is None else type_BL
            x_BLD = x_BLD + self.type_embed[type_BL].astype(x_BLD.dtype)
        x_BLD = self.entrance(x_BLD, place_BL, room=token_BL.shape[1], train=train)
        x_BLD = self.encoder(x_BLD, Sight(Mode(train), mask))
        if self.head == "transform":
            x_BLD = self.transform(x_BLD)
        return self.embedding.scaled(x_BLD), self.embedding.readout()


class Transform(nn.Module):
    """A layer, its activation and a norm before the readout."""

    settings: Settings

    @nn.compact
    def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        s = self.settings
        # Both axes are widths; `F` stands for the one that comes out.
        w_DF = kernel(self, "head", (s.width, s.width)).astype(x_BLD.dtype)
        y_BLF = jnp.einsum("BLD,DF->BLF", x_BLD, w_DF)
        if s.bias:
            y_BLF += bias(self, "head_bias", (s.width,), x_BLD.dtype)
        return s.make_norm(name="norm")(activate(s.activation, y_BLF))


def check(*, num_layers: int, num_types: int = 0, head: str = "plain", **words) -> None:
    """Raises ValueError for words that do not go together, in one line."""
    del num_layers, num_types, head
    settings.check(Settings(**words), causal=False)
