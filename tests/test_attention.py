"""models/attention.py"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.attend.mask import Mask, Rule
from models.attention import Attention, Glance
from models.settings import Settings

B, L, M, D, H = 2, 5, 7, 12, 3
SIZES = dict(width=D, num_heads=H, mlp_width=1)
EVERYTHING = Rule()
MODEL = Attention(Settings(**SIZES))


@pytest.fixture(scope="module")
def inputs():
    x_key, memory_key = jax.random.split(jax.random.key(0))
    x_BLD = jax.random.normal(x_key, (B, L, D))
    memory_BMD = jax.random.normal(memory_key, (B, M, D))
    segment_BL = jnp.array([[1, 1, 2, 2, 2], [1, 2, 2, 3, 3]])
    memory_segment_BM = jnp.array([[1, 1, 1, 1, 2, 0, 0], [1, 2, 3, 3, 3, 0, 0]])
    return x_BLD, memory_BMD, mask_of(segment_BL, memory_segment_BM)


def mask_of(segment_BL, memory_segment_BM, rule=EVERYTHING):
    def place(segment):
        return jnp.broadcast_to(jnp.arange(segment.shape[1]), segment.shape)

    return Mask(
        segment_BL,
        place(segment_BL),
        memory_segment_BM,
        place(memory_segment_BM),
        rule=rule,
    )


@pytest.fixture(scope="module")
def params(inputs):
    return MODEL.init(jax.random.key(1), *inputs, train=False)


@jax.jit
def attend(params, x_BLD, memory_BMD, mask):
    return MODEL.apply(params, x_BLD, memory_BMD, mask, train=False)


def flax_attend(params, x_BLD, memory_BMD, mask):
    theirs = nn.MultiHeadDotProductAttention(num_heads=H, use_bias=False)
    renamed = {name: {"kernel": w} for name, w in params["params"].items()}
    visible_B1LM = mask.visible()[:, None]
    return theirs.apply({"params": renamed}, x_BLD, memory_BMD, mask=visible_B1LM)


def test_it_agrees_with_flax_under_masks(params, inputs):
    def of(function):
        energy = jax.value_and_grad(lambda p: (function(p, *inputs) ** 2).sum())
        return function(params, *inputs), jax.jit(energy)(params)[1]

    (actual, grads), (expected, wanted) = of(attend), of(flax_attend)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        grads,
        wanted,
    )


def test_what_is_not_visible_has_no_influence_at_all(params, inputs):
    x_BLD, memory_BMD, mask = inputs

    def energy(memory_BMD):
        return (attend(params, x_BLD, memory_BMD, mask) ** 2).sum()

    grad_BMD = jax.jit(jax.grad(energy))(memory_BMD)
    seen_BM = mask.visible().any(1)
    assert 0 < seen_BM.sum() < seen_BM.size
    assert jnp.all((grad_BMD != 0).any(-1) == seen_BM)
    other_BMD = jnp.where(seen_BM[..., None], memory_BMD, 1e4)
    same = attend(params, x_BLD, other_BMD, mask)
    np.testing.assert_array_equal(same, attend(params, *inputs))


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(params, inputs):
    x_BLD, memory_BMD, mask = inputs
    blind = mask._replace(segment_BL=mask.segment_BL.at[0, 0].set(9))

    def out(params, x_BLD, memory_BMD):
        return attend(params, x_BLD, memory_BMD, blind)

    out_BLD = out(params, x_BLD, memory_BMD)
    assert jnp.all(out_BLD[0, 0] == 0)
    assert jnp.all(out_BLD[0, 1:] != 0)
    energy = jax.grad(lambda *of: (out(*of) ** 2).sum(), argnums=(0, 1, 2))
    grads = jax.jit(energy)(params, x_BLD, memory_BMD)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert jnp.all(grads[1][0, 0] == 0)


def test_half_precision_stays_close_and_takes_its_softmax_in_float32(params, inputs):
    x_BLD, memory_BMD, mask = inputs
    half = x_BLD.astype(jnp.bfloat16), memory_BMD.astype(jnp.bfloat16), mask
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


VARIANTS = {
    "plain": {},
    "groups": dict(num_groups=1),
    "capped": dict(softcap=1.0),
    "normed": dict(qk_norm=True),
    "biased": dict(bias=True, head_width=6),
}


def fresh(model, *args):
    """Random parameters: no bias is 0, no scale 1."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *args, train=False))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * rng.standard_normal(leaf.shape), leaf.dtype),
        shapes,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_extending_a_past_equals_attending_to_the_whole_row(variant, inputs):
    model = Attention(Settings(**SIZES | VARIANTS[variant]))
    x_BLD, ones_BL = inputs[0], jnp.ones((B, L), int)
    causal = mask_of(ones_BL, ones_BL, Rule(causal=True))
    params = fresh(model, x_BLD, x_BLD, causal)
    expected_BLD = model.apply(params, x_BLD, x_BLD, causal, train=False)
    past = model.apply(params, jnp.zeros((B, L, D)), method="memorize")
    past = jax.tree.map(jnp.zeros_like, past)

    @jax.jit
    def extend(x_B1D, past, place):
        visible_B1L = jnp.broadcast_to(jnp.arange(L) <= place, (B, 1, L))
        glance = Glance(visible_B1L)
        return model.apply(params, x_B1D, past, place, glance, method="extend")

    for place in range(L):
        out_B1D, past = extend(x_BLD[:, place, None], past, jnp.int32(place))
        np.testing.assert_allclose(
            out_B1D[:, 0], expected_BLD[:, place], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_recalling_a_memory_equals_looking_at_it(variant, inputs):
    model = Attention(Settings(**SIZES | VARIANTS[variant]), cross=True)
    x_BLD, memory_BMD, mask = inputs
    params = fresh(model, *inputs)
    memory = model.apply(params, memory_BMD, method="memorize")
    glance = Glance(mask.visible())
    out_BLD = model.apply(params, x_BLD, memory, glance, method="recall")
    expected_BLD = model.apply(params, *inputs, train=False)
    np.testing.assert_allclose(out_BLD, expected_BLD, rtol=1e-5, atol=1e-5)


def test_a_group_of_heads_shares_its_keys_and_values(inputs):
    """Grouped attention is multi-head attention whose kernels repeat."""
    grouped = Attention(Settings(width=D, num_heads=4, num_groups=2, mlp_width=1))
    full = Attention(Settings(width=D, num_heads=4, mlp_width=1))
    params = fresh(grouped, *inputs)
    repeated = {
        name: jnp.repeat(w, 2, axis=1) if name in ("key", "value") else w
        for name, w in params["params"].items()
    }
    actual = grouped.apply(params, *inputs, train=False)
    expected = full.apply({"params": repeated}, *inputs, train=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_normed_queries_and_keys_bound_the_scores(inputs):
    """However large the inputs: a score is at most sqrt(K) times the two scales."""
    model = Attention(Settings(**SIZES, qk_norm=True))
    params = model.init(jax.random.key(0), *inputs, train=False)
    x_BLD, memory_BMD, mask = inputs
    found = [
        model.apply(params, scale * x_BLD, scale * memory_BMD, mask, train=False)
        for scale in (1e3, 1e6)
    ]
    np.testing.assert_allclose(found[0] * 1e3, found[1], rtol=1e-4, atol=1)


def test_shapes_are_checked(inputs):
    x_BLD, memory_BMD, mask = inputs
    with pytest.raises(Exception, match="memory_BMD"):
        MODEL.init(jax.random.key(0), x_BLD, memory_BMD[0], mask, train=False)
