"""The words of an architecture, which all families share, and what they may be."""

import dataclasses
import math
from typing import Any, Literal

import jax
from flax import linen as nn

from core.numbers import off
from core.refusal import listed
from core.registry import Range
from core.types import Number
from models.attend import Implementation
from models.attend.choose import check as check_choice
from models.attend.choose import features_of
from models.attend.mask import Rule
from models.dropout import Generator

Norm = Literal["pre", "post", "sandwich", "peri", "deepnorm"]
Position = Literal["sinusoidal", "learned", "relative", "rotary", "alibi", "none"]
Activation = Literal["relu", "gelu", "gelu_tanh", "relu2", "swiglu", "geglu"]
Remat = Literal["none", "dots", "full", "offload"]


@dataclasses.dataclass(eq=False, kw_only=True)
class Settings:
    """What every block of a model knows. docs/models.md has the papers and the costs.

    `dropout` is that of Vaswani et al. 2017, section 5.4: of each layer's output before
    it is added, and of the embeddings. Two more places have a rate of their own: the
    weights of attention, and what the MLP's activation gives. `word_dropout` is that of
    whole tokens on the way in, `drop_connect` that of the kernels of blocks.
    """

    width: int
    num_heads: int
    mlp_width: int
    num_groups: int = 0  # of heads that share keys: 1 is multi-query; 0, no sharing
    head_width: int = 0  # 0: width / num_heads
    norm: Norm = "pre"
    norm_kind: Literal["layer", "rms"] = "layer"
    norm_eps: Number = 1e-6
    activation: Activation = "relu"
    bias: bool = False  # of linear layers
    position: Position = "sinusoidal"
    max_length: int = 0  # of learned positions
    rotary_base: Number = 10_000.0
    rotary_scaling: Literal["none", "linear", "ntk", "llama3"] = "none"
    rotary_factor: Number = 1.0  # how many times longer than the first training's
    rotary_length: int = 8192  # the first training's, for llama3
    relative_ranges: int = 32
    relative_distance: int = 128
    attention: Literal["softmax", "linear", "random_features"] = "softmax"
    implementation: Implementation = "auto"
    num_features: int = 256  # of random_features
    window: int = 0  # places back that self-attention sees; 0: all
    block: int = 0  # places that see each other alone; 0: all
    num_global: int = 0  # first places that see all and are seen
    qk_norm: bool = False
    softcap: Number = math.inf  # of attention's scores
    logit_softcap: Number = math.inf
    tied: bool = True
    embed: Literal["scaled", "plain", "unit"] = "scaled"
    embed_norm: bool = False
    readout_bias: bool = False
    initialization: Literal["fan_in", "depth", "zero"] = "fan_in"
    parametrization: Literal["standard", "mup"] = "standard"
    base_width: int = 0  # muP: the width whose numbers are transferred
    base_head_width: int = 0
    num_experts: int = 0  # 0: one MLP for all
    experts_per_token: int = 2
    capacity: float = 1.25  # room of an expert over its even share, in training
    balance: Number = 0.01  # weight of the load-balance loss
    dropout: Number = 0.0
    attention_dropout: Number = 0.0
    mlp_dropout: Number = 0.0
    word_dropout: Number = 0.0
    drop_connect: Number = 0.0
    layer_drop: Number = 0.0
    layer_drop_kind: Literal["layer", "branch"] = "layer"
    generator: Generator = "hash"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    unroll: int = 1  # layers compiled side by side: faster, and longer to compile

    @property
    def settings(self) -> "Settings":
        """These alone, of a model that has more fields."""
        names = [field.name for field in dataclasses.fields(Settings)]
        return Settings(**{name: getattr(self, name) for name in names})

    @property
    def K(self) -> int:
        """The width of a head."""
        return self.head_width or self.width // self.num_heads

    @property
    def G(self) -> int:
        """Groups of heads."""
        return self.num_groups or self.num_heads

    @property
    def shrink(self) -> float:
        """muP: the base width over the width; 1 in the standard parametrization."""
        return self.base_width / self.width if self.parametrization == "mup" else 1.0

    def rule(self, *, causal: bool) -> Rule:
        """Of self-attention's mask."""
        return Rule(causal, self.window, self.block, self.num_global)

    def make_norm(self, **options) -> nn.Module:
        """A normalisation of the features."""
        kind = nn.LayerNorm if self.norm_kind == "layer" else nn.RMSNorm
        epsilon: Any = self.norm_eps  # traced, often
        return kind(epsilon=epsilon, dtype=self.dtype, **options)


COUNT, AMOUNT = Range("[1, inf)"), Range("[0, inf)")
_RATE, _CAP = Range("[0, 1)", neutral=0.0), Range("(0, inf]", neutral=math.inf)
RANGES = {
    "width": COUNT,
    "num_heads": COUNT,
    "mlp_width": COUNT,
    "num_groups": AMOUNT,
    "head_width": AMOUNT,
    "norm_eps": Range("(0, 1]"),
    "max_length": AMOUNT,
    "rotary_base": Range("[2, inf)"),
    "rotary_factor": Range("[1, inf)", neutral=1.0),
    "rotary_length": COUNT,
    "relative_ranges": Range("[4, inf)"),
    "relative_distance": COUNT,
    "num_features": COUNT,
    "window": AMOUNT,
    "block": AMOUNT,
    "num_global": AMOUNT,
    "softcap": _CAP,
    "logit_softcap": _CAP,
    "base_width": AMOUNT,
    "base_head_width": AMOUNT,
    "num_experts": AMOUNT,
    "experts_per_token": COUNT,
    "capacity": Range("(0, inf)"),
    "balance": Range("[0, inf)", neutral=0.0),
    "dropout": _RATE,
    "attention_dropout": _RATE,
    "mlp_dropout": _RATE,
    "word_dropout": _RATE,
    "drop_connect": _RATE,
    "layer_drop": _RATE,
    "unroll": COUNT,
}


def check(s: Settings, *, causal: bool, prefix: bool = False) -> None:
    """Raises ValueError for words that do not go together, in one line."""
    _check_heads(s)
    _check_positions(s)
    _check_attention(s, causal, prefix)
    if s.num_global and not (s.window or s.block):
        raise ValueError(
            f"model.num_global={s.num_global} needs model.window or model.block: "
            "without one of them every place sees all."
        )
    if s.parametrization == "mup":
        _check_mup(s)
    if s.num_experts and s.experts_per_token > s.num_experts:
        raise ValueError(
            f"model.experts_per_token={s.experts_per_token} must not exceed "
            f"model.num_experts={s.num_experts}."
        )
    if s.remat == "offload" and not _has_host_memory():
        raise ValueError(
            "model.remat='offload' needs a device that moves arrays to its host's "
            f"memory, and {jax.default_backend()!r} has none: 'full' needs least."
        )


def _check_heads(s: Settings) -> None:
    if not s.head_width and s.width % s.num_heads:
        raise ValueError(
            f"model.num_heads={s.num_heads} must divide model.width, which is "
            f"{s.width}, or model.head_width be stated."
        )
    if s.num_heads % s.G:
        raise ValueError(
            f"model.num_groups={s.num_groups} must divide model.num_heads, which is "
            f"{s.num_heads}."
        )


def _check_attention(s: Settings, causal: bool, prefix: bool) -> None:
    rule = s.rule(causal=causal)
    features = features_of(
        rule,
        prefix=prefix,
        bias=s.position in ("relative", "alibi"),
        softcap=not off(s.softcap, math.inf),
        dropout=not off(s.attention_dropout, 0.0),
        float32=s.dtype == "float32",
    )
    if s.attention == "softmax":
        check_choice(s.implementation, features, s.K)
    elif wrong := sorted(features - {"causal", "float32"}):
        raise ValueError(
            f"model.attention={s.attention!r} sums over all of a text's past, and "
            f"does not take {listed(wrong)}: 'softmax' does."
        )
    elif s.implementation != "auto":
        raise ValueError(
            f"model.implementation={s.implementation!r} is one of softmax attention, "
            f"and model.attention={s.attention!r}."
        )


def _check_positions(s: Settings) -> None:
    if s.position == "rotary" and s.K % 2:
        raise ValueError(
            f"model.position='rotary' turns pairs of features, and a head has {s.K}: "
            "model.head_width must be even."
        )
    if s.position == "learned" and not s.max_length:
        raise ValueError(
            "model.position='learned' needs model.max_length, the places that there "
            "are, to be more than 0."
        )
    if s.position == "relative" and s.relative_distance <= s.relative_ranges // 2:
        raise ValueError(
            f"model.relative_distance={s.relative_distance} must be more than half of "
            f"model.relative_ranges={s.relative_ranges}."
        )


def _check_mup(s: Settings) -> None:
    for key in ("base_width", "base_head_width"):
        if not getattr(s, key):
            raise ValueError(f"model.parametrization='mup' needs model.{key} > 0.")
    if s.embed == "scaled":
        raise ValueError(
            "model.parametrization='mup' needs model.embed='unit' or 'plain': the "
            "factor of 'scaled' grows with the width."
        )


def _has_host_memory() -> bool:
    kinds = {memory.kind for memory in jax.devices()[0].addressable_memories()}
    return jax.default_backend() != "cpu" and "pinned_host" in kinds
