"""The Transformer's block and a stack of them, for every family.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 (post-norm); Xiong et al.
2020, https://arxiv.org/abs/2002.04745 (pre); Ding et al. 2021,
https://arxiv.org/abs/2105.13290 (sandwich); Kim et al. 2025,
https://arxiv.org/abs/2502.02732 (peri: sandwich, and a norm on the embeddings); Wang et
al. 2022, https://arxiv.org/abs/2203.00555 (DeepNorm).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from core.numbers import off
from models.attend.bias import Bias, Ranges, Relative, alibi
from models.attend.mask import Mask
from models.attention import Attention, Glance, Memory
from models.drop_layers import Kept, kept_of
from models.dropout import Dropout
from models.experts import Experts
from models.mlp import Mlp
from models.remat import rematerialized
from models.rotary import Rotation, rotation
from models.settings import Settings
from models.start import Start

BEFORE, AFTER = ("pre", "sandwich", "peri"), ("sandwich", "peri")
ALL: Kept = {}  # branches are kept by all rows


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mode:
    """Whether a call trains: part of the program."""

    train: bool


class Sight(NamedTuple):
    """What the queries of a row may look at, in itself and in a memory."""

    mode: Mode
    mask: Mask
    bias: Bias | None = None
    turn: Rotation | None = None
    memory_BMD: Float[Array, "B M D"] | None = None
    memory_mask: Mask | None = None


class Glimpse(NamedTuple):
    """`Sight` of one more token of each of L continuations; `slot` takes the first."""

    slot: Int[Array, ""]
    past: Glance
    memory: Glance | None = None


class Block(nn.Module):
    """Attention to itself, to a memory if there is one, then the MLP.

    `__call__` has the form that a scan over layers wants: carried, per layer, shared.
    What is per layer is the branches that rows do not skip.
    """

    settings: Settings
    start: Start = Start()
    cross: bool = False

    def setup(self):
        s = self.settings
        self.attention = Attention(s, self.start)
        if self.cross:
            self.cross_attention = Attention(s, self.start, cross=True)
        if s.num_experts:
            self.experts = Experts(s, self.start)
        else:
            self.mlp = Mlp(s, self.start)
        branches = ["attention", *(["cross"] if self.cross else []), "mlp"]
        self.norm = {name: s.make_norm() for name in branches}
        if s.norm in AFTER:
            self.norm_out = {name: s.make_norm() for name in branches}
        self.drop = Dropout(s.dropout, s.generator)

    def __call__(self, x_BLD: Float[Array, "B L D"], kept: Kept, sight: Sight):
        """A whole row at once."""
        mask, train = sight.mask, sight.mode.train

        def look(y_BLD):
            return self.attention(
                y_BLD, y_BLD, mask, bias=sight.bias, turn=sight.turn, train=train
            )

        y_BLD = self._residual("attention", x_BLD, look, train, kept)
        y_BLD = self._rest(y_BLD, sight, kept)
        if "layer" in kept:
            y_BLD = jnp.where(kept["layer"] > 0, y_BLD, x_BLD)
        return y_BLD, None

    def read(
        self, x_BLD: Float[Array, "B L D"], sight: Sight
    ) -> tuple[Float[Array, "B L D"], Memory]:
        """`__call__`, and the memory with which `extend` goes on from there."""
        past = None

        def look(y_BLD):
            nonlocal past
            y_BLD, past = self.attention.remember(
                y_BLD, sight.mask, bias=sight.bias, turn=sight.turn
            )
            return y_BLD

        x_BLD = self._rest(self._residual("attention", x_BLD, look, False), sight)
        assert past is not None
        return x_BLD, past

    def memorize(self, memory_BMD: Float[Array, "B M D"]) -> Memory:
        """The memory as `extend` looks at it."""
        return self.cross_attention.memorize(memory_BMD)

    def extend(
        self,
        x_BLD: Float[Array, "B L D"],
        past: Memory,
        memory: Memory | None,
        glimpse: Glimpse,
    ) -> tuple[Float[Array, "B L D"], Memory]:
        """One token of each of L continuations, and the past with it."""

        def look(y_BLD):
            nonlocal past
            y_BLD, past = self.attention.extend(y_BLD, past, glimpse.slot, glimpse.past)
            return y_BLD

        def look_at_memory(y_BLD):
            assert memory is not None
            assert glimpse.memory is not None
            return self.cross_attention.recall(y_BLD, memory, glimpse.memory)

        x_BLD = self._residual("attention", x_BLD, look, False)
        if self.cross:
            x_BLD = self._residual("cross", x_BLD, look_at_memory, False)
        return self._think(x_BLD, jnp.ones(x_BLD.shape[:2], bool), False), past

    def _rest(self, x_BLD, sight: Sight, kept: Kept = ALL):
        """The branches after self-attention."""
        train = sight.mode.train

        def look_at_memory(y_BLD):
            memory_BMD, mask = sight.memory_BMD, sight.memory_mask
            assert memory_BMD is not None
            assert mask is not None
            return self.cross_attention(y_BLD, memory_BMD, mask, train=train)

        if self.cross:
            x_BLD = self._residual("cross", x_BLD, look_at_memory, train, kept)
        return self._think(x_BLD, sight.mask.segment_BL > 0, train, kept)

    def _think(self, x_BLD, real_BL: Bool[Array, "B L"], train: bool, kept: Kept = ALL):
        def think(y_BLD):
            if self.settings.num_experts:
                return self.experts(y_BLD, real_BL, train=train)
            return self.mlp(y_BLD, train=train)

        return self._residual("mlp", x_BLD, think, train, kept)

    def _residual(
        self, name: str, x_BLD, branch: Callable, train: bool, kept: Kept = ALL
    ):
        def added(y_BLD):
            y_BLD = self.drop(y_BLD, train=train)
            return y_BLD * kept[name].astype(y_BLD.dtype) if name in kept else y_BLD

        placed, norm = self.settings.norm, self.norm[name]
        if placed in BEFORE:
            y_BLD = branch(norm(x_BLD))
            if placed in AFTER:
                y_BLD = self.norm_out[name](y_BLD)
            return x_BLD + added(y_BLD)
        y_BLD = added(branch(x_BLD))
        if placed == "deepnorm":
            x_BLD = x_BLD * jnp.asarray(self.start.residual, x_BLD.dtype)
        return norm(x_BLD + y_BLD)


class Stack(nn.Module):
    """N blocks, compiled once; parameters and caches have a leading axis of layers."""

    num_layers: int
    settings: Settings
    start: Start = Start()
    cross: bool = False
    causal: bool = False

    def setup(self):
        s = self.settings
        scanned = nn.scan(
            rematerialized(Block, s.remat),
            variable_axes={"params": 0, "losses": 0, "looks": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast),  # pyright: ignore[reportArgumentType] a tuple may
            length=self.num_layers,
            unroll=min(s.unroll, self.num_layers),
        )
        self.layers = scanned(s, self.start, self.cross)
        if s.norm in BEFORE:
            self.norm = s.make_norm()
        if s.position == "relative":
            init = nn.initializers.normal(s.width**-0.5)
            shape = (s.relative_ranges, s.num_heads)
            self.distance = self.param("distance", init, shape, jnp.float32)

    def __call__(
        self, x_BLD: Float[Array, "B L D"], sight: Sight
    ) -> Float[Array, "B L D"]:
        kept = ALL
        if sight.mode.train and not off(self.settings.layer_drop, 0.0):
            shape = (self.num_layers, len(x_BLD), 1, 1)
            kept = kept_of(self.settings, self.make_rng("dropout"), shape, self.cross)
        x_BLD, _ = self.layers(x_BLD, kept, self._placed(sight))
        return self._finish(x_BLD)

    def read(
        self, x_BLD: Float[Array, "B L D"], sight: Sight
    ) -> tuple[Float[Array, "B L D"], tuple[Memory, ...]]:
        """`__call__`, and of each layer the memory with which `extend` goes on."""
        sight, pasts = self._placed(sight), []
        for block in self._blocks():
            x_BLD, past = block.read(x_BLD, sight)
            pasts.append(past)
        return self._finish(x_BLD), tuple(pasts)

    def memorize(self, memory_BMD: Float[Array, "B M D"]) -> tuple[Memory, ...]:
        """The memory as each layer of `extend` looks at it."""
        return tuple(block.memorize(memory_BMD) for block in self._blocks())

    def extend(
        self,
        x_BLD: Float[Array, "B L D"],
        pasts: tuple[Memory, ...],
        memories: tuple[Memory | None, ...],
        glimpse: Glimpse,
    ) -> tuple[Float[Array, "B L D"], tuple[Memory, ...]]:
        """One token of each of L continuations, and the past of each layer with it."""
        extended = []
        layers = zip(self._blocks(), pasts, memories, strict=True)
        for block, past, memory in layers:
            x_BLD, past = block.extend(x_BLD, past, memory, glimpse)
            extended.append(past)
        return self._finish(x_BLD), tuple(extended)

    def glance(
        self,
        visible_BLM: Bool[Array, "B L M"],
        slot_place_M: Int[Array, "M"],
        place: Int[Array, ""],
        place_BL: Int[Array, "B L"],
    ) -> Glance:
        """What tokens have of their positions: in the row, and in their own text."""
        bias, bias_HM, turn = self._bias(), None, None
        if bias is not None:
            bias_HM = bias.at(place[None], slot_place_M)[:, 0]
        if self.settings.position == "rotary":
            turn = rotation(self.settings, place_BL)
        return Glance(visible_BLM, bias_HM, turn)

    def _placed(self, sight: Sight) -> Sight:
        """With what the positions of self-attention need, once for all layers."""
        turn = None
        if self.settings.position == "rotary":
            turn = rotation(self.settings, sight.mask.place_BL)
        return sight._replace(bias=self._bias(), turn=turn)

    def _bias(self) -> Bias | None:
        s = self.settings
        if s.position == "relative":
            ranges = Ranges(s.relative_ranges, s.relative_distance, self.causal)
            return Relative(self.distance, ranges)
        return alibi(s.num_heads) if s.position == "alibi" else None

    def _blocks(self) -> list[Block]:
        """The layers one by one.

        A scan would copy the weights and the past of each layer for each token.
        """
        params = self.layers.variables["params"]
        block = Block(self.settings, self.start, self.cross, parent=None)
        return [
            block.bind({"params": jax.tree.map(lambda leaf, n=n: leaf[n], params)})
            for n in range(self.num_layers)
        ]

    def _finish(self, x_BLD):
        return self.norm(x_BLD) if self.settings.norm in BEFORE else x_BLD
