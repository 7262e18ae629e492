"""experiments/presets.py: the sizes of the releases, and that every block runs."""

import pathlib
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from core import registry
from experiments.presets import PRESETS, model
from models import MODELS
from models.flops import forward
from train.schema import SCHEMA

ROUNDED = ("transformer_base", "transformer_big")  # by the paper, in millions

# Each has what the others have not; the rest are put together of the same.
KINDS = ("t5_1_1_base", "mistral_7b", "mixtral_8x7b", "bert_base")


def build(words, vocab):
    words = dict(words)
    return MODELS[words.pop("name")].build(vocab=vocab, **words)


def inputs(name, B, L):
    """Two texts a row and some padding."""
    token_BL = jnp.asarray(np.arange(B * L).reshape(B, L) % 50 + 4)
    segment_L = jnp.where(jnp.arange(L) < L // 2, 1, 2) * (jnp.arange(L) < L - 2)
    segment_BL = jnp.broadcast_to(segment_L, (B, L))
    return (token_BL, segment_BL) * (2 if name == "encoder_decoder" else 1)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_of_its_release(name):
    preset = PRESETS[name]
    whole, batch = build(preset.model, preset.vocab), inputs(preset.model["name"], 1, 8)
    shapes = jax.eval_shape(lambda: whole.init(jax.random.key(0), *batch, train=False))[
        "params"
    ]
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    if name in ROUNDED:
        assert found == pytest.approx(preset.parameters, rel=0.04)
    else:
        assert found == preset.parameters
    # Two operations for each parameter that is no table, and attention.
    M = 8 if preset.model["name"] == "encoder_decoder" else 0
    flops = forward(shapes, whole.settings, B=1, L=8, M=M)
    assert 0.2 < flops / (2 * 8 * found) < 1.3


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_config(name):
    registry.check(model(name), SCHEMA["model"], "model")


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"No preset 'gpt3'. There are \['bart_base'"):
        model("gpt3")


def reduced(name):
    """Two layers of four heads of 8, everything else as it is."""
    words = dict(PRESETS[name].model) | dict(width=32, num_heads=4, mlp_width=48)
    words |= dict(remat="full", dtype="bfloat16", dropout=0.1)
    words["unroll"] = 1
    for key in ("num_layers", "num_encoder_layers", "num_decoder_layers"):
        if key in words:
            words[key] = 2
    if "head_width" in words:
        words["head_width"] = 8
    if words.get("num_groups"):
        words["num_groups"] = 2
    if words.get("window"):
        words["window"] = 3
    return words


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in KINDS else pytest.mark.slow)
        for name in PRESETS
    ],
)
def test_a_reduced_preset_trains_in_bfloat16_with_remat_on_four_devices(name):
    words = reduced(name)
    small, batch = build(words, 60), inputs(words["name"], 4, 12)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, fixed = (
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ())
    )
    params = jax.jit(
        lambda: small.init(jax.random.key(0), *batch, train=False)["params"],
        out_shardings=fixed,
    )()

    def loss(params, batch):
        logit_BLV = small.apply(
            {"params": params}, *batch, train=True, rngs={"dropout": jax.random.key(1)}
        )
        weight_BL = (batch[-1] > 0).astype(jnp.float32)
        nats_BL = jax.nn.logsumexp(logit_BLV, axis=-1) - logit_BLV.max(-1)
        return (nats_BL * weight_BL).sum()

    grads = jax.jit(jax.grad(loss), in_shardings=(fixed, (rows,) * len(batch)))(
        params, tuple(jax.device_put(x, rows) for x in batch)
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert jnp.isfinite(leaf).all(), path
        assert leaf.any(), path


def test_the_page_on_models_has_every_word_and_every_preset():
    page = (pathlib.Path(__file__).parent.parent / "docs" / "models.md").read_text()
    for family in MODELS:
        options = SCHEMA["model"].options({"name": family}, "model")
        missing = [word for word in options if f"`{word}`" not in page]
        assert not missing
        for value in [v for p in options.values() for v in get_args(p.annotation)]:
            assert not isinstance(value, str) or f"`{value}`" in page, value
    for name, preset in PRESETS.items():
        assert f"| `{name}` |" in page
        assert f"| {preset.parameters:,} |" in page
