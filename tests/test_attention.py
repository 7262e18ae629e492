"""models/attention.py"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.attention import Attention

B, L, M, D, H = 2, 5, 7, 12, 3
MODEL = Attention(width=D, num_heads=H)


@pytest.fixture(scope="module")
def inputs():
    x_key, memory_key, mask_key = jax.random.split(jax.random.key(0), 3)
    x_BLD = jax.random.normal(x_key, (B, L, D))
    memory_BMD = jax.random.normal(memory_key, (B, M, D))
    visible_BLM = jax.random.bernoulli(mask_key, 0.6, (B, L, M))
    visible_BLM = visible_BLM.at[:, :, 0].set(True).at[:, :, -2:].set(False)
    return x_BLD, memory_BMD, visible_BLM


@pytest.fixture(scope="module")
def params(inputs):
    return MODEL.init(jax.random.key(1), *inputs, train=False)


@jax.jit
def attend(params, x_BLD, memory_BMD, visible_BLM):
    return MODEL.apply(params, x_BLD, memory_BMD, visible_BLM, train=False)


def test_agrees_with_flax_under_masks(params, inputs):
    x_BLD, memory_BMD, visible_BLM = inputs
    theirs = nn.MultiHeadDotProductAttention(num_heads=H, use_bias=False)
    renamed = {name: {"kernel": w} for name, w in params["params"].items()}
    expected_BLD = theirs.apply(
        {"params": renamed}, x_BLD, memory_BMD, mask=visible_BLM[:, None]
    )
    actual_BLD = attend(params, *inputs)
    np.testing.assert_allclose(actual_BLD, expected_BLD, rtol=1e-5, atol=1e-6)


def test_gradients_agree_with_flax(params, inputs):
    x_BLD, memory_BMD, visible_BLM = inputs
    theirs = nn.MultiHeadDotProductAttention(num_heads=H, use_bias=False)

    def energy(params):
        renamed = {name: {"kernel": w} for name, w in params["params"].items()}
        mask = visible_BLM[:, None]
        return (
            theirs.apply({"params": renamed}, x_BLD, memory_BMD, mask=mask) ** 2
        ).sum()

    expected = jax.jit(jax.grad(energy))(params)
    actual = jax.jit(jax.grad(lambda params: (attend(params, *inputs) ** 2).sum()))(
        params
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        actual,
        expected,
    )


def test_what_is_not_visible_has_no_influence_at_all(params, inputs):
    x_BLD, memory_BMD, visible_BLM = inputs

    def energy(memory_BMD):
        return (attend(params, x_BLD, memory_BMD, visible_BLM) ** 2).sum()

    grad_BMD = jax.jit(jax.grad(energy))(memory_BMD)
    assert jnp.all(grad_BMD[:, -2:] == 0)
    seen_BM = visible_BLM.any(1)
    assert jnp.all((grad_BMD != 0).any(-1) == seen_BM)
    other_BMD = memory_BMD.at[:, -2:].set(1e4)
    same = attend(params, x_BLD, other_BMD, visible_BLM)
    np.testing.assert_array_equal(same, attend(params, *inputs))


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(params, inputs):
    x_BLD, memory_BMD, visible_BLM = inputs
    blind_BLM = visible_BLM.at[0, 0].set(False)

    def out(params, x_BLD, memory_BMD):
        return attend(params, x_BLD, memory_BMD, blind_BLM)

    out_BLD = out(params, x_BLD, memory_BMD)
    assert jnp.all(out_BLD[0, 0] == 0)
    assert jnp.all(out_BLD[0, 1:] != 0)
    energy = jax.grad(lambda *of: (out(*of) ** 2).sum(), argnums=(0, 1, 2))
    grads = jax.jit(energy)(params, x_BLD, memory_BMD)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert jnp.all(grads[1][0, 0] == 0)


def test_half_precision_stays_close_and_takes_its_softmax_in_float32(params, inputs):
    x_BLD, memory_BMD, visible_BLM = inputs
    half = x_BLD.astype(jnp.bfloat16), memory_BMD.astype(jnp.bfloat16), visible_BLM
    half_BLD = attend(params, *half)
    assert half_BLD.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        half_BLD.astype("f4"), attend(params, *inputs), atol=0.03
    )
    jaxpr = jax.make_jaxpr(attend)(params, *half)
    dtypes = [e.outvars[0].aval.dtype for e in _equations(jaxpr.jaxpr, "exp")]
    assert dtypes == [jnp.float32]


def _equations(jaxpr, name):
    found = [e for e in jaxpr.eqns if e.primitive.name == name]
    for equation in jaxpr.eqns:
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                found += _equations(inner.jaxpr, name)
    return found


def test_extending_a_past_equals_attending_to_the_whole_row(params, inputs):
    x_BLD = inputs[0]
    causal_BLL = jnp.broadcast_to(jnp.tril(jnp.ones((L, L), bool)), (B, L, L))
    expected_BLD = attend(params, x_BLD, x_BLD, causal_BLL)
    past = MODEL.apply(params, jnp.zeros((B, L, D)), method="memorize")
    for place in range(L):
        visible_B1L = jnp.broadcast_to(jnp.arange(L) <= place, (B, 1, L))
        out_B1D, past = MODEL.apply(
            params,
            x_BLD[:, place, None],
            past,
            jnp.int32(place),
            visible_B1L,
            method="extend",
        )
        np.testing.assert_allclose(
            out_B1D[:, 0], expected_BLD[:, place], rtol=1e-5, atol=1e-6
        )


def test_recalling_a_memory_equals_looking_at_it(params, inputs):
    x_BLD, memory_BMD, visible_BLM = inputs
    memory = MODEL.apply(params, memory_BMD, method="memorize")
    out_BLD = MODEL.apply(params, x_BLD, memory, visible_BLM, method="recall")
    np.testing.assert_allclose(out_BLD, attend(params, *inputs), rtol=1e-5, atol=1e-6)


def test_shapes_are_checked(inputs):
    x_BLD, memory_BMD, visible_BLM = inputs
    with pytest.raises(Exception, match="visible_BLM"):
        MODEL.init(
            jax.random.key(0), x_BLD, memory_BMD, visible_BLM[:, :-1], train=False
        )
