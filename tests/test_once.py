"""What is read often is computed once on a CPU, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attend import plain
from models.attend.mask import Mask, Rule
from models.mlp import Mlp
from models.once import once, settled
from models.packing import places
from models.rotary import rotation
from models.settings import Settings


def compiled(function, *args):
    """What XLA makes of it, as text."""
    return jax.jit(function).lower(*args).compile().as_text()


def wavy(x):
    return jnp.sin(x) * x


ORDERS = {
    "the value": lambda f: f,
    "a batch of values": jax.vmap,
    "the gradient": lambda f: jax.grad(lambda x: f(x).sum()),
    "the gradient's derivative": lambda f: jax.jacfwd(jax.grad(lambda x: f(x).sum())),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kept", [once(wavy), lambda x: wavy(settled(x))])
def test_nothing_but_the_place_of_computing_changes(order, kept):
    x_B = jnp.linspace(-2.0, 2.0, 5)
    found, wanted = (jax.jit(ORDERS[order](f))(x_B) for f in (kept, wavy))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


def test_other_platforms_are_given_the_function_itself():
    x_B = jnp.ones(3)
    traced = jax.jit(lambda x: once(wavy)(settled(x))).trace(x_B)
    told = {
        platform: "inlineable" in traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert told == {"cpu": True, "cuda": False, "tpu": False}


def test_sines_are_computed_once_for_queries_keys_and_gradients():
    settings = Settings(width=16, num_heads=2, mlp_width=16, position="rotary")

    def score(query_BLHK, key_BLHK, place_BL):
        turn = rotation(settings, place_BL)
        return jnp.einsum("BLHK,BMHK->", turn(query_BLHK), turn(key_BLHK) ** 2)

    query_BLHK, key_BLHK = jax.random.normal(jax.random.key(0), (2, 2, 8, 2, 8))
    place_BL = jnp.arange(16).reshape(2, 8)
    args = query_BLHK, key_BLHK, place_BL
    text = compiled(jax.grad(score, argnums=(0, 1)), *args)
    assert text.count(" sine(") == text.count(" cosine(") == 1


def test_a_mask_is_computed_once_for_a_softmax_and_its_gradient():
    segment_BL = jnp.ones((2, 8), jnp.int32)
    sides = segment_BL, places(segment_BL)
    mask = Mask(*sides, *sides, rule=Rule(causal=True, window=4))

    def score(query_BLHK, key_BMHK, value_BMHK):
        return jnp.square(plain.attend(query_BLHK, key_BMHK, value_BMHK, mask)).sum()

    args = jax.random.normal(jax.random.key(0), (3, 2, 8, 2, 8))
    text = compiled(jax.grad(score, argnums=(0, 1, 2)), *args)
    assert text.count(" abs(") == 1  # of the distances, for the window


def test_the_gradient_of_gelu_is_computed_once_for_weights_and_inputs():
    settings = Settings(width=16, num_heads=2, mlp_width=32, activation="gelu")
    layer, x_BLD = Mlp(settings), jax.random.normal(jax.random.key(0), (2, 8, 16))
    params = layer.init(jax.random.key(1), x_BLD, train=False)

    def score(params, x_BLD):
        return jnp.square(layer.apply(params, x_BLD, train=True)).sum()

    text = compiled(jax.grad(score, argnums=(0, 1)), params, x_BLD)
    slope = "constant(-1.128379"  # -2 / sqrt(pi), of the derivative of erfc
    assert text.count(slope) == 1
