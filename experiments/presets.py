"""Published architectures, as the config's block `model`.

    config.model = presets.model("gpt2")
    config.model = presets.model("llama3_8b", num_layers=2, width=256)

Each has its source, its vocabulary, and how many parameters its release has. Sizes are
those of the release; dropout is left to the experiment. Where a departure changes no
count, it stands in docs/models.md.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Preset(NamedTuple):
    """`parameters` are those of the released checkpoint, or of the paper's table."""

    model: dict[str, Any]
    vocab: int
    parameters: int
    source: str


def model(name: str, **changes: Any) -> ConfigDict:
    """The block `model` of a preset, with changes.

    Raises:
      ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"No preset {name!r}. There are {sorted(PRESETS)}.")
    return ConfigDict(PRESETS[name].model | changes)


def _transformer(width: int, mlp_width: int, num_heads: int) -> dict[str, Any]:
    return dict(
        name="encoder_decoder",
        width=width,
        num_heads=num_heads,
        mlp_width=mlp_width,
        num_encoder_layers=6,
        num_decoder_layers=6,
        norm="post",
        activation="relu",
        position="sinusoidal",
    )


def _t5(width: int, num_layers: int, num_heads: int, mlp_width: int) -> dict[str, Any]:
    return dict(
        name="encoder_decoder",
        width=width,
        num_heads=num_heads,
        head_width=64,
        mlp_width=mlp_width,
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
        norm="pre",
        norm_kind="rms",
        activation="relu",
        position="relative",
        embed="unit",
    )


def _t5_1_1(width: int, num_layers: int, num_heads: int, mlp_width: int):
    gated = dict(activation="geglu", tied=False)
    return _t5(width, num_layers, num_heads, mlp_width) | gated


def _bart(width: int, num_layers: int) -> dict[str, Any]:
    return dict(
        name="encoder_decoder",
        width=width,
        num_heads=width // 64,
        mlp_width=4 * width,
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
        norm="post",
        norm_eps=1e-5,
        activation="gelu",
        bias=True,
        position="learned",
        max_length=1026,  # two rows, kept for padding, are never looked up
        embed="plain",
        embed_norm=True,
    )


def _gpt2(width: int, num_layers: int, num_heads: int) -> dict[str, Any]:
    return dict(
        name="decoder",
        width=width,
        num_heads=num_heads,
        mlp_width=4 * width,
        num_layers=num_layers,
        norm="pre",
        norm_eps=1e-5,
        activation="gelu_tanh",
        bias=True,
        position="learned",
        max_length=1024,
        embed="plain",
        initialization="depth",
    )


def _llama(width: int, num_layers: int, num_heads: int, mlp_width: int, **words):
    block = dict(
        name="decoder",
        width=width,
        num_heads=num_heads,
        mlp_width=mlp_width,
        num_layers=num_layers,
        norm="pre",
        norm_kind="rms",
        norm_eps=1e-5,
        activation="swiglu",
        position="rotary",
        embed="plain",
        tied=False,
    )
    return block | words


def _bert(width: int, num_layers: int) -> dict[str, Any]:
    return dict(
        name="encoder",
        width=width,
        num_heads=width // 64,
        mlp_width=4 * width,
        num_layers=num_layers,
        norm="post",
        norm_eps=1e-12,
        activation="gelu",
        bias=True,
        position="learned",
        max_length=512,
        num_types=2,
        embed="plain",
        embed_norm=True,
        head="transform",
        readout_bias=True,
    )


VASWANI = "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, table 3"
RAFFEL = "Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 3.7"
SHAZEER = "Shazeer 2020, https://arxiv.org/abs/2002.05202; the release T5 1.1"
LEWIS = "Lewis et al. 2019, https://arxiv.org/abs/1910.13461, section 2"
RADFORD = "Radford et al. 2019, Language models are unsupervised multitask learners"
TOUVRON = "Touvron et al. 2023, https://arxiv.org/abs/2302.13971, table 2"
TOUVRON_2 = "Touvron et al. 2023, https://arxiv.org/abs/2307.09288, table 1"
GRATTAFIORI = "Grattafiori et al. 2024, https://arxiv.org/abs/2407.21783, table 3"
JIANG = "Jiang et al. 2023, https://arxiv.org/abs/2310.06825, table 1"
JIANG_2 = "Jiang et al. 2024, https://arxiv.org/abs/2401.04088, table 1"
DEVLIN = "Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 3"

LLAMA_3 = dict(num_groups=8, rotary_base=500_000.0)
MISTRAL = dict(num_groups=8, rotary_base=10_000.0, window=4096)
MIXTRAL = dict(num_groups=8, rotary_base=1e6, num_experts=8, experts_per_token=2)

PRESETS = {
    "transformer_base": Preset(_transformer(512, 2048, 8), 37_000, 65_000_000, VASWANI),
    "transformer_big": Preset(
        _transformer(1024, 4096, 16), 37_000, 213_000_000, VASWANI
    ),
    "t5_small": Preset(_t5(512, 6, 8, 2048), 32_128, 60_506_624, RAFFEL),
    "t5_base": Preset(_t5(768, 12, 12, 3072), 32_128, 222_903_552, RAFFEL),
    "t5_large": Preset(_t5(1024, 24, 16, 4096), 32_128, 737_668_096, RAFFEL),
    "t5_1_1_base": Preset(_t5_1_1(768, 12, 12, 2048), 32_128, 247_577_856, SHAZEER),
    "bart_base": Preset(_bart(768, 6), 50_265, 139_420_416, LEWIS),
    "bart_large": Preset(_bart(1024, 12), 50_265, 406_291_456, LEWIS),
    "gpt2": Preset(_gpt2(768, 12, 12), 50_257, 124_439_808, RADFORD),
    "gpt2_medium": Preset(_gpt2(1024, 24, 16), 50_257, 354_823_168, RADFORD),
    "gpt2_large": Preset(_gpt2(1280, 36, 20), 50_257, 774_030_080, RADFORD),
    "gpt2_xl": Preset(_gpt2(1600, 48, 25), 50_257, 1_557_611_200, RADFORD),
    "llama_7b": Preset(
        _llama(4096, 32, 32, 11_008, norm_eps=1e-6), 32_000, 6_738_415_616, TOUVRON
    ),
    "llama2_70b": Preset(
        _llama(8192, 80, 64, 28_672, num_groups=8), 32_000, 68_976_648_192, TOUVRON_2
    ),
    "llama3_8b": Preset(
        _llama(4096, 32, 32, 14_336, **LLAMA_3), 128_256, 8_030_261_248, GRATTAFIORI
    ),
    "mistral_7b": Preset(
        _llama(4096, 32, 32, 14_336, **MISTRAL), 32_000, 7_241_732_096, JIANG
    ),
    "mixtral_8x7b": Preset(
        _llama(4096, 32, 32, 14_336, **MIXTRAL), 32_000, 46_702_792_704, JIANG_2
    ),
    "bert_base": Preset(_bert(768, 12), 30_522, 109_514_298, DEVLIN),
    "bert_large": Preset(_bert(1024, 24), 30_522, 335_174_458, DEVLIN),
}
