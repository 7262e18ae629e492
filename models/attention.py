"""Multi-head attention: projections, positions, groups, and a cache for decoding.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2; groups:
Ainslie et al. 2023, https://arxiv.org/abs/2305.13245; norms of queries and keys:
Henry et al. 2020, https://arxiv.org/abs/2010.04245, as RMSNorm with a learned scale.

Letter beyond STYLE.md's: `Q` queries of a group of heads.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from models.attend import attend, linear
from models.attend.bias import Bias
from models.attend.features import Elu, Features, random_features, scores
from models.attend.look import Look, look
from models.attend.mask import Mask
from models.attend.plain import capped
from models.dropout import Dropout
from models.kernel import bias, kernel
from models.rotary import Rotation
from models.settings import Settings
from models.start import Start


class Memory(NamedTuple):
    """Keys and values of a layer as a cache holds them.

    Each lies as its matrix product reads it: on a CPU this is three times as fast as
    `BMGK`, which is the faster when there are as many queries as keys.
    """

    key_BGKM: Float[Array, "B G K M"]
    value_BGMK: Float[Array, "B G M K"]


class Glance(NamedTuple):
    """What one more token of each of L continuations has of its position.

    `bias_HM` and `turn` are None where the position is elsewhere.
    """

    visible_BLM: Bool[Array, "B L M"]
    bias_HM: Float[Array, "H M"] | None = None
    turn: Rotation | None = None


class Attention(nn.Module):
    """Each query averages the values of the memory it may see.

    Self-attention passes `x_BLD` twice. `start` scales kernels at initialisation.
    """

    settings: Settings
    start: Start = Start()
    cross: bool = False  # the memory is another text

    def setup(self):
        s, start = self.settings, self.start
        D, H, G, K = s.width, s.num_heads, s.G, s.K
        self.query = kernel(self, "query", (D, H, K))
        self.key = kernel(self, "key", (D, G, K))
        self.value = kernel(self, "value", (D, G, K), gain=start.inner)
        self.out = kernel(self, "out", (H, K, D), fan_in=2, gain=start.out)
        if s.bias:
            self.query_bias = bias(self, "query_bias", (H, K), s.dtype)
            self.key_bias = bias(self, "key_bias", (G, K), s.dtype)
            self.value_bias = bias(self, "value_bias", (G, K), s.dtype)
            self.out_bias = bias(self, "out_bias", (D,), s.dtype)
        if s.qk_norm:
            epsilon: Any = s.norm_eps  # traced, often
            self.query_norm = nn.RMSNorm(epsilon=epsilon, dtype=s.dtype)
            self.key_norm = nn.RMSNorm(epsilon=epsilon, dtype=s.dtype)
        self.drop = Dropout(s.attention_dropout)
        self.drop_connect = Dropout(s.drop_connect, s.generator)

    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        memory_BMD: Float[Array, "B M D"],
        mask: Mask,
        *,
        bias: Bias | None = None,
        turn: Rotation | None = None,
        train: bool,
    ) -> Float[Array, "B L D"]:
        sides = self.keys(memory_BMD, turn, train=train)
        return self.attend(x_BLD, *sides, mask, bias, turn, train)

    def remember(
        self,
        x_BLD: Float[Array, "B L D"],
        mask: Mask,
        *,
        bias: Bias | None = None,
        turn: Rotation | None = None,
    ) -> tuple[Float[Array, "B L D"], Memory]:
        """Self-attention, and the memory with which `extend` goes on from there."""
        key_BMGK, value_BMGK = self.keys(x_BLD, turn)
        y_BLD = self.attend(x_BLD, key_BMGK, value_BMGK, mask, bias, turn, False)
        return y_BLD, _as_memory(key_BMGK, value_BMGK)

    def keys(
        self,
        memory_BMD: Float[Array, "B M D"],
        turn: Rotation | None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "B M G K"], Float[Array, "B M G K"]]:
        """Keys and values of a memory."""
        key_DGK = self.drop_connect(self.key, train=train)
        value_DGK = self.drop_connect(self.value, train=train)
        key_BMGK = _project(memory_BMD, key_DGK, self._bias("key_bias"))
        value_BMGK = _project(memory_BMD, value_DGK, self._bias("value_bias"))
        if self.settings.qk_norm:
            key_BMGK = self.key_norm(key_BMGK)
        return key_BMGK if turn is None else turn(key_BMGK), value_BMGK

    def attend(self, x_BLD, key_BMGK, value_BMGK, mask, bias, turn, train):
        """What each token finds among keys and values that are there already."""
        s = self.settings
        query_BLHK = self._queries(x_BLD, turn, train)
        sides = query_BLHK, key_BMGK, value_BMGK
        if self.is_mutable_collection("looks") and not self.is_initializing():
            self.sow("looks", "look", self._look(query_BLHK, key_BMGK, mask, bias))
        if self._linear:
            features = features_of(s)
            return self._out(linear.attend(*sides, mask, features=features), train)
        mixed_BLHK = attend(
            *sides,
            mask,
            bias=bias,
            softcap=s.softcap,
            drop=self.drop.of_parts(train=train),
            implementation=s.implementation,
        )
        return self._out(mixed_BLHK, train)

    def extend(
        self,
        x_BLD: Float[Array, "B L D"],
        past: Memory,
        slot: Int[Array, ""],
        glance: Glance,
    ) -> tuple[Float[Array, "B L D"], Memory]:
        """One more token of each of L continuations, in L slots of their common past.

        The glance tells them apart, and shows each its own new slot too. Returns the
        past with the new slots filled.
        """
        insert = jax.lax.dynamic_update_slice_in_dim
        new = _as_memory(*self.keys(x_BLD, glance.turn))
        past = Memory(
            insert(past.key_BGKM, new.key_BGKM, slot, axis=3),
            insert(past.value_BGMK, new.value_BGMK, slot, axis=2),
        )
        return self.recall(x_BLD, past, glance), past

    def memorize(self, memory_BMD: Float[Array, "B M D"]) -> Memory:
        """What `recall` looks at."""
        return _as_memory(*self.keys(memory_BMD, None))

    def recall(
        self, x_BLD: Float[Array, "B L D"], memory: Memory, glance: Glance
    ) -> Float[Array, "B L D"]:
        """Attention of few queries to a cache."""
        B, L, _ = x_BLD.shape
        query_BLHK = self._queries(x_BLD, glance.turn, False)
        _, _, H, K = query_BLHK.shape
        G = self.settings.G
        query_BHLK = jnp.einsum("BLHK->BHLK", query_BLHK)
        query_BGQK = query_BHLK.reshape(B, G, H // G * L, K)
        score_BGQM = self._scores(query_BGQK, memory.key_BGKM)
        score_BHLM = score_BGQM.reshape(B, H, L, -1)
        if glance.bias_HM is not None:
            score_BHLM += glance.bias_HM[None, :, None]
        weight_BHLM = jax.nn.softmax(score_BHLM, where=glance.visible_BLM[:, None])
        weight_BGQM = weight_BHLM.astype(x_BLD.dtype).reshape(score_BGQM.shape)
        # In this order of axes the product needs no transpose of the values.
        mixed_BGQK = jnp.einsum("BGQM,BGMK->BGQK", weight_BGQM, memory.value_BGMK)
        mixed_BHLK = mixed_BGQK.reshape(B, H, L, K)
        return self._out(jnp.einsum("BHLK->BLHK", mixed_BHLK), False)

    def _look(self, query_BLHK, key_BMGK, mask: Mask, bias: Bias | None) -> Look:
        """What the weights of a whole row are like, however they are computed."""
        B, L, H, K = query_BLHK.shape
        query_BHLK = jnp.einsum("BLHK->BHLK", query_BLHK)
        query_BGQK = query_BHLK.reshape(B, self.settings.G, -1, K)
        key_BGKM = jnp.einsum("BMGK->BGKM", key_BMGK)
        score_BHLM = self._scores(query_BGQK, key_BGKM).reshape(B, H, L, -1)
        if bias is not None:
            M = score_BHLM.shape[3]
            score_BHLM += bias.at(jnp.arange(L), jnp.arange(M))[None]
        return look(score_BHLM, mask.visible())

    def _scores(self, query_BGQK, key_BGKM):
        """What a softmax over the visible makes weights of."""
        if self._linear:
            key_BGMK = jnp.einsum("BGKM->BGMK", key_BGKM)
            return scores(query_BGQK, key_BGMK, features_of(self.settings))
        score_BGQM = jnp.einsum(
            "BGQK,BGKM->BGQM",
            query_BGQK,
            key_BGKM,
            preferred_element_type=jnp.float32,
        )
        return capped(score_BGQM, self.settings.softcap)

    @property
    def _linear(self) -> bool:
        """Linear attention is to one's own text: each query's sums are of its past."""
        return self.settings.attention != "softmax" and not self.cross

    def _queries(self, x_BLD, turn, train):
        """Scaled already; where nothing normalises them, on the kernel: cheaper."""
        s, scale = self.settings, self._scale()
        query_DHK = self.drop_connect(self.query, train=train)
        query_bias = self._bias("query_bias")
        if s.qk_norm:
            query_BLHK = self.query_norm(_project(x_BLD, query_DHK, query_bias))
            query_BLHK *= jnp.asarray(scale, query_BLHK.dtype)
        else:
            query_bias = None if query_bias is None else query_bias * scale
            query_BLHK = _project(x_BLD, query_DHK * scale, query_bias)
        return query_BLHK if turn is None else turn(query_BLHK)

    def _scale(self) -> float:
        """1 / sqrt(K), or 1 / K in muP, equal to the other at the base width.

        Features of `linear` take queries as they are.

        Source: Yang et al. 2022, https://arxiv.org/abs/2203.03466, definition 4.1.
        """
        s = self.settings
        if s.attention == "linear" and not self.cross:
            return 1.0
        if s.parametrization == "mup":
            return s.base_head_width**0.5 / s.K
        return s.K**-0.5

    def _bias(self, name):
        return getattr(self, name) if self.settings.bias else None

    def _out(self, mixed_BLHK, train):
        o_HKD = self.drop_connect(self.out, train=train).astype(mixed_BLHK.dtype)
        y_BLD = jnp.einsum("BLHK,HKD->BLD", mixed_BLHK, o_HKD)
        return y_BLD + self.out_bias if self.settings.bias else y_BLD


def features_of(settings: Settings) -> Features:
    """The feature map of linear attention."""
    if settings.attention == "linear":
        return Elu()
    return random_features(settings.num_features, settings.K)


def _project(x_BLD, w_DHK, bias_HK):
    y_BLHK = jnp.einsum("BLD,DHK->BLHK", x_BLD, w_DHK.astype(x_BLD.dtype))
    return y_BLHK if bias_HK is None else y_BLHK + bias_HK.astype(y_BLHK.dtype)


def _as_memory(key_BMGK, value_BMGK) -> Memory:
    return Memory(
        jnp.einsum("BMGK->BGKM", key_BMGK), jnp.einsum("BMGK->BGMK", value_BMGK)
    )
