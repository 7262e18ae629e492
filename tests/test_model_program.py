"""models/encoder_decoder.py: its config, and the program that a config gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import registry
from models import MODELS
from models.encoder_decoder import EncoderDecoder

SIZES = dict(
    vocab=11,
    width=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_width=24,
)
TOKEN_BL = jnp.array([[4, 5, 6, 1, 7, 1], [10, 9, 8, 7, 1, 0]])
SEGMENT_BL = jnp.array([[1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 1, 0]])
PACKED = (TOKEN_BL, SEGMENT_BL, TOKEN_BL, SEGMENT_BL)


def num_equations(jaxpr):
    inner = [
        v.jaxpr for e in jaxpr.eqns for v in e.params.values() if hasattr(v, "jaxpr")
    ]
    return len(jaxpr.eqns) + sum(map(num_equations, inner))


def training(**sizes):
    """The training pass of a model, and what it takes."""
    model, key = EncoderDecoder(**SIZES | sizes), jax.random.key(0)
    params = jax.eval_shape(lambda: model.init(key, *PACKED, train=False))

    def energy(params, key):
        return model.apply(params, *PACKED, train=True, rngs={"dropout": key}).sum()

    return energy, params, key


def test_the_program_does_not_grow_with_the_number_of_layers():
    def size(encoder, decoder):
        energy, *takes = training(
            num_encoder_layers=encoder, num_decoder_layers=decoder, dropout=0.1
        )
        return num_equations(jax.make_jaxpr(jax.grad(energy))(*takes).jaxpr)

    assert size(2, 3) == size(7, 9) > 100


def test_dropout_of_zero_leaves_no_trace_in_the_program():
    def compiled(**rates):
        energy, *takes = training(**rates)
        return jax.jit(energy).lower(*takes).compile().as_text()

    off = compiled(dropout=0.0, attention_dropout=0.0)
    assert " xor(" not in off
    assert "threefry" not in off
    assert " xor(" in compiled(attention_dropout=0.1)


def test_a_traced_dropout_compiles_once_and_equals_a_static_one():
    shapes = training()[1]
    params = jax.tree.map(lambda leaf: jnp.linspace(-1, 1, leaf.size), shapes)
    params = jax.tree.map(lambda leaf, of: leaf.reshape(of.shape), params, shapes)

    @jax.jit
    def run(rate, key):
        model = EncoderDecoder(**SIZES, dropout=rate, attention_dropout=rate)
        return model.apply(params, *PACKED, train=True, rngs={"dropout": key})

    keys = jax.random.split(jax.random.key(1))
    found = {rate: run(jnp.float32(rate), keys[0]) for rate in (0.1, 0.4)}
    other = run(jnp.float32(0.1), keys[1])
    assert run._cache_size() == 1
    assert (found[0.1] != other).any()
    model = EncoderDecoder(**SIZES, dropout=0.4, attention_dropout=0.4)
    static = jax.jit(
        lambda: model.apply(params, *PACKED, train=True, rngs={"dropout": keys[0]})
    )()
    np.testing.assert_allclose(found[0.4], static, rtol=1e-5, atol=1e-5)


CONFIG = dict(name="encoder_decoder", **SIZES)
del CONFIG["vocab"]
BLOCK = registry.Block(MODELS, given=("vocab", "parent", "name"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_heads=3), r"num_heads=3 must divide model.width, which is 16"),
        (dict(num_heads=0), r"model.num_heads=0 must lie in \[1, inf\)"),
        (dict(dropout=1.0), r"model.dropout=1.0 must lie in \[0, 1\)"),
        (dict(norm="prae"), r"model.norm='prae' is not known. Did you mean 'pre'"),
        (dict(generator="hsh"), r"model.generator='hsh'.*Did you mean 'hash'"),
        (dict(widht=16), r"model.widht=16 is not known. Did you mean 'width'"),
        (dict(dtype="float16"), r"model.dtype='float16'.*Did you mean 'bfloat16'"),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(change, message):
    registry.check(CONFIG, BLOCK, "model")
    with pytest.raises(ValueError, match=message) as error:
        registry.check(CONFIG | change, BLOCK, "model")
    assert "\n" not in str(error.value)
