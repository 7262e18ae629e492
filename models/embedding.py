"""From tokens to features and back: tables, positions, the readout.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, sections 3.4 and 3.5;
muP's readout: Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 8 and, for its
zeros at initialisation, appendix D.2.
"""

import math

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from core.numbers import off
from models import packing
from models.dropout import Dropout
from models.readout import Readout
from models.settings import Settings

SMALL = 0.02  # the standard deviation of GPT-2's and BERT's tables


class Embedding(nn.Module):
    """The table of tokens, and that of the readout where it is another.

    `scaled`: of standard deviation 1 / sqrt(D), times sqrt(D) on the way in; `plain`:
    0.02; `unit`: 1, and on the way out, where tied, over sqrt(D).
    """

    settings: Settings
    vocab: int

    def setup(self):
        s, shape = self.settings, (self.vocab, self.settings.width)
        std = {"scaled": s.width**-0.5, "plain": SMALL, "unit": 1.0}[s.embed]
        self.embed = self.param("embed", nn.initializers.normal(std), shape)
        if not s.tied:
            zero = s.parametrization == "mup" or s.initialization == "zero"
            std = 0.0 if zero else s.width**-0.5
            self.unembed = self.param("unembed", nn.initializers.normal(std), shape)
        if s.readout_bias:
            self.readout_bias = self.param(
                "readout_bias", nn.initializers.zeros, (self.vocab,)
            )

    def __call__(self, token_BL: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        x_BLD = self.embed[token_BL]
        if self.settings.embed == "scaled":
            x_BLD = x_BLD * self.settings.width**0.5
        return x_BLD.astype(self.settings.dtype)

    def scaled(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Features as the readout takes them."""
        s, scale = self.settings, self.settings.shrink
        if s.tied and s.embed == "unit":
            scale *= (s.base_width if s.parametrization == "mup" else s.width) ** -0.5
        return x_BLD if scale == 1.0 else x_BLD * jnp.asarray(scale, x_BLD.dtype)

    def readout(self) -> Readout:
        """From features that are `scaled` to logits."""
        s = self.settings
        return Readout(
            self.embed if s.tied else self.unembed,
            self.readout_bias if s.readout_bias else None,
            None if off(s.logit_softcap, math.inf) else s.logit_softcap,
        )


class Entrance(nn.Module):
    """What a stack gets: embeddings with their positions, normalised, dropped out.

    Word dropout sets the whole embedding of a token to zero, its type's too, and leaves
    its position: the token is there, and which it is cannot be seen. Source: Iyyer et
    al. 2015, https://aclanthology.org/P15-1162, section 3.1; Sennrich et al. 2016,
    https://arxiv.org/abs/1606.02891, section 2.4. Bowman et al. 2016,
    https://arxiv.org/abs/1511.06349, put the unknown token there instead.
    """

    settings: Settings

    def setup(self):
        s = self.settings
        if s.position == "learned":
            init, shape = nn.initializers.normal(SMALL), (s.max_length, s.width)
            self.place = self.param("place", init, shape)
        if s.embed_norm or s.norm == "peri":
            self.norm = s.make_norm()
        self.drop = Dropout(s.dropout, s.generator)
        self.drop_words = Dropout(s.word_dropout, s.generator)

    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        place_BL: Int[Array, "B L"],
        *,
        room: int,
        train: bool,
    ) -> Float[Array, "B L D"]:
        """All places are below `room`."""
        s = self.settings
        x_BLD = self.drop_words.of_slices(x_BLD, 2, train=train)
        if s.position == "learned":
            if room > s.max_length:
                raise ValueError(
                    f"model.max_length={s.max_length} is too short for {room} tokens."
                )
            x_BLD = x_BLD + self.place[place_BL].astype(x_BLD.dtype)
        elif s.position == "sinusoidal":
            table_LD = jnp.asarray(packing.sinusoids(room, s.width))
            x_BLD = (x_BLD + table_LD[place_BL]).astype(x_BLD.dtype)
        if s.embed_norm or s.norm == "peri":
            x_BLD = self.norm(x_BLD)
        return self.drop(x_BLD, train=train)
