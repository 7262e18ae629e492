"""The Transformer's block and a stack of them, for every family.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 (post-norm); Xiong et al.
2020, https://arxiv.org/abs/2002.04745 (pre-norm).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from core.types import Number
from models.attention import Attention, Memory
from models.dropout import Dropout, Generator
from models.kernel import kernel


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every block of a model shares."""

    width: int
    num_heads: int
    mlp_width: int
    norm: Literal["pre", "post"]
    dropout: Number
    attention_dropout: Number
    mlp_dropout: Number
    generator: Generator
    dtype: Any
    unroll: int


class Sight(NamedTuple):
    """What the queries of a row may look at, in itself and in a memory."""

    visible_BLL: Bool[Array, "B L L"]
    memory_BMD: Float[Array, "B M D"] | None = None
    visible_BLM: Bool[Array, "B L M"] | None = None


class Glimpse(NamedTuple):
    """`Sight` of one more token of each of L continuations; `slot` takes the first."""

    slot: Int[Array, ""]
    visible_BLS: Bool[Array, "B L S"]
    visible_BLM: Bool[Array, "B L M"]


class Mlp(nn.Module):
    """Two layers with a ReLU between."""

    settings: Settings

    @nn.compact
    def __call__(
        self, x_BLD: Float[Array, "B L D"], *, train: bool
    ) -> Float[Array, "B L D"]:
        D, F = self.settings.width, self.settings.mlp_width
        in_DF = kernel(self, "in", (D, F)).astype(x_BLD.dtype)
        out_FD = kernel(self, "out", (F, D)).astype(x_BLD.dtype)
        y_BLF = jnp.einsum("BLD,DF->BLF", x_BLD, in_DF)
        drop = Dropout(self.settings.mlp_dropout, self.settings.generator)
        y_BLF = drop.relu(y_BLF, train=train)
        return jnp.einsum("BLF,FD->BLD", y_BLF, out_FD)


class Block(nn.Module):
    """Attention to itself, to a memory if there is one, then the MLP.

    `__call__` has the form that a scan over layers wants: carried, per layer, shared.
    """

    settings: Settings
    cross: bool = False

    def setup(self):
        s = self.settings
        heads = (s.width, s.num_heads, s.attention_dropout, s.generator)
        self.attention = Attention(*heads)
        self.norm_attention = nn.LayerNorm(dtype=s.dtype)
        if self.cross:
            self.cross_attention = Attention(*heads)
            self.norm_cross = nn.LayerNorm(dtype=s.dtype)
        self.mlp = Mlp(s)
        self.norm_mlp = nn.LayerNorm(dtype=s.dtype)
        self.drop = Dropout(s.dropout, s.generator)

    def __call__(self, x_BLD: Float[Array, "B L D"], _, shared: tuple[Sight, bool]):
        """A whole row at once."""
        sight, train = shared

        def look(y_BLD):
            return self.attention(y_BLD, y_BLD, sight.visible_BLL, train=train)

        def look_at_memory(y_BLD):
            memory_BMD, visible_BLM = sight.memory_BMD, sight.visible_BLM
            assert memory_BMD is not None
            assert visible_BLM is not None
            return self.cross_attention(y_BLD, memory_BMD, visible_BLM, train=train)

        x_BLD = self._residual(x_BLD, look, self.norm_attention, train)
        if self.cross:
            x_BLD = self._residual(x_BLD, look_at_memory, self.norm_cross, train)

        def think(y_BLD):
            return self.mlp(y_BLD, train=train)

        return self._residual(x_BLD, think, self.norm_mlp, train), None

    def memorize(self, memory_BMD: Float[Array, "B M D"]) -> Memory:
        """The memory as `extend` looks at it."""
        return self.cross_attention.memorize(memory_BMD)

    def extend(
        self,
        x_BLD: Float[Array, "B L D"],
        past: Memory,
        memory: Memory,
        glimpse: Glimpse,
    ) -> tuple[Float[Array, "B L D"], Memory]:
        """One token of each of L continuations, and the past with it."""

        def look(y_BLD):
            nonlocal past
            y_BLD, past = self.attention.extend(
                y_BLD, past, glimpse.slot, glimpse.visible_BLS
            )
            return y_BLD

        def look_at_memory(y_BLD):
            return self.cross_attention.recall(y_BLD, memory, glimpse.visible_BLM)

        def think(y_BLD):
            return self.mlp(y_BLD, train=False)

        x_BLD = self._residual(x_BLD, look, self.norm_attention, False)
        if self.cross:
            x_BLD = self._residual(x_BLD, look_at_memory, self.norm_cross, False)
        return self._residual(x_BLD, think, self.norm_mlp, False), past

    def _residual(self, x_BLD, layer: Callable, norm: nn.Module, train: bool):
        if self.settings.norm == "pre":
            return x_BLD + self.drop(layer(norm(x_BLD)), train=train)
        return norm(x_BLD + self.drop(layer(x_BLD), train=train))


class Stack(nn.Module):
    """N blocks, compiled once; parameters and caches have a leading axis of layers."""

    num_layers: int
    settings: Settings
    cross: bool = False

    def setup(self):
        scanned = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast),  # pyright: ignore[reportArgumentType] a tuple may
            length=self.num_layers,
            unroll=min(self.settings.unroll, self.num_layers),
        )
        self.layers = scanned(self.settings, self.cross)
        if self.settings.norm == "pre":
            self.norm = nn.LayerNorm(dtype=self.settings.dtype)

    def __call__(
        self, x_BLD: Float[Array, "B L D"], sight: Sight, *, train: bool
    ) -> Float[Array, "B L D"]:
        x_BLD, _ = self.layers(x_BLD, None, (sight, train))
        return self._finish(x_BLD)

    def memorize(self, memory_BMD: Float[Array, "B M D"]) -> tuple[Memory, ...]:
        """The memory as each layer of `extend` looks at it."""
        return tuple(block.memorize(memory_BMD) for block in self._blocks())

    def extend(
        self,
        x_BLD: Float[Array, "B L D"],
        pasts: tuple[Memory, ...],
        memories: tuple[Memory, ...],
        glimpse: Glimpse,
    ) -> tuple[Float[Array, "B L D"], tuple[Memory, ...]]:
        """One token of each of L continuations, and the past of each layer with it."""
        extended = []
        layers = zip(self._blocks(), pasts, memories, strict=True)
        for block, past, memory in layers:
            x_BLD, past = block.extend(x_BLD, past, memory, glimpse)
            extended.append(past)
        return self._finish(x_BLD), tuple(extended)

    def _blocks(self) -> list[Block]:
        """The layers one by one.

        A scan would copy the weights and the past of each layer for each token.
        """
        params = self.layers.variables["params"]
        block = Block(self.settings, self.cross, parent=None)
        return [
            block.bind({"params": jax.tree.map(lambda leaf, n=n: leaf[n], params)})
            for n in range(self.num_layers)
        ]

    def _finish(self, x_BLD):
        return self.norm(x_BLD) if self.settings.norm == "pre" else x_BLD
