"""models/attend: plain and blockwise against float64, and what must not be seen."""

import functools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from models import dropout
from models.attend import blockwise, plain
from models.attend.bias import Ranges, Relative, alibi
from models.attend.mask import Mask, Rule
from models.dropout import Drop
from models.packing import places
from tests.attending import B, H, L, arrays, make_mask, pairs, reference

BLOCK = 8  # divides no length here
IMPLEMENTATIONS = {
    "plain": plain.attend,
    "blockwise": functools.partial(blockwise.attend, block=BLOCK),
}
SELF_RULES = (
    Rule(causal=True),
    Rule(causal=True, window=5),
    Rule(window=3),
    Rule(block=6),
    Rule(causal=True, block=5, num_global=2),
    Rule(window=4, num_global=1),
)
SEED_2, KEEP = jnp.array([5, 7], jnp.uint32), 0.75


def of_bias(bias, of_score_HLM):
    """The gradient of the bias's own numbers."""
    L, M = of_score_HLM.shape[1:]
    ahead_LM = np.arange(M)[None] - np.arange(L)[:, None]
    if isinstance(bias, Relative):
        of_range = np.zeros(bias.distance_RH.shape)
        range_LM = np.asarray(bias.ranges.of(jnp.asarray(ahead_LM)))
        np.add.at(of_range, range_LM, np.einsum("HLM->LMH", of_score_HLM))
        return of_range
    return -(of_score_HLM * np.abs(ahead_LM)).sum((1, 2))


@functools.partial(jax.jit, static_argnames="name")
def run(name, given, along, mask, bias=None, softcap=None, drop=None):
    """The result, and the gradients of queries, keys, values and bias."""
    softcap = math.inf if softcap is None else softcap

    def energy(given, bias):
        options = dict(bias=bias, softcap=softcap, drop=drop)
        out = IMPLEMENTATIONS[name](*given, mask, **options)
        return (out.astype(jnp.float32) * along).sum(), out

    value_and_grad = jax.value_and_grad(energy, argnums=(0, 1), has_aux=True)
    (_, out), grads = value_and_grad(given, bias)
    return out, grads


@st.composite
def cases(draw):
    crossed = draw(st.booleans())
    rule = Rule() if crossed else draw(st.sampled_from(SELF_RULES))
    return dict(
        rule=rule,
        lengths=(L, 13) if crossed else (L, L),
        prefix=rule.causal and draw(st.booleans()),
        groups=draw(st.sampled_from([1, 2, 4])),
        bias=draw(st.sampled_from(["", "relative", "alibi"])),
        softcap=draw(st.sampled_from([None, 2.0])),
        dropped=draw(st.booleans()),
        seed=draw(st.integers(0, 999)),
    )


def make_bias(kind, rng, rule):
    if kind == "relative":
        distance_RH = jnp.asarray(rng.normal(size=(8, H)), jnp.float32)
        return Relative(distance_RH, Ranges(8, 12, causal=rule.causal))
    return alibi(H) if kind == "alibi" else None


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@hypothesis.settings(max_examples=10, deadline=None, derandomize=True, database=None)
@hypothesis.given(case=cases())
def test_each_agrees_with_float64_forward_and_backward(name, case):
    rng = np.random.default_rng(case["seed"])
    mask = make_mask(rng, case["rule"], lengths=case["lengths"], prefix=case["prefix"])
    *given, along = arrays(rng, groups=case["groups"], lengths=case["lengths"])
    bias = make_bias(case["bias"], rng, case["rule"])
    drop, drop_BHLM = None, np.ones(1)
    if case["dropped"]:
        drop = Drop(SEED_2, jnp.float32(KEEP))
        key = jax.random.wrap_key_data(SEED_2)
        drop_BHLM = dropout.mask(key, KEEP, (B, H, *case["lengths"])) / KEEP
    softcap = case["softcap"]
    out, (grads, bias_grad) = run(name, tuple(given), along, mask, bias, softcap, drop)
    expected, wanted, of_score = reference(
        *given, along, pairs(mask), bias, softcap, np.float64(drop_BHLM)
    )
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    for grad, want in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(grad, want, rtol=1e-4, atol=1e-4)
    if bias is not None:
        np.testing.assert_allclose(
            bias_grad[0], of_bias(bias, of_score), rtol=1e-4, atol=1e-4
        )


@pytest.fixture(params=IMPLEMENTATIONS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def windowed():
    rng = np.random.default_rng(1)
    mask = make_mask(rng, Rule(causal=True, window=5))
    return mask, arrays(rng, groups=2)


def test_keys_that_nobody_sees_have_no_influence_at_all(name, windowed):
    mask, (query, key, value, along) = windowed
    seen_BM = pairs(mask).any(1)
    assert not seen_BM.all()
    out, (grads, _) = run(name, (query, key, value), along, mask)
    for grad_BMGK in grads[1:]:
        assert not np.asarray(grad_BMGK)[~seen_BM].any()
        assert np.asarray(grad_BMGK)[seen_BM].all()
    key, value = (np.where(seen_BM[..., None, None], x, 1e4) for x in (key, value))
    changed, (changed_grads, _) = run(name, (query, key, value), along, mask)
    np.testing.assert_array_equal(changed, out)
    jax.tree.map(np.testing.assert_array_equal, changed_grads[0], grads[0])


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(name, windowed):
    mask, (query, key, value, along) = windowed
    blind_BL = ~pairs(mask).any(2)
    assert blind_BL.any()
    out, (grads, _) = run(name, (query, key, value), along, mask)
    assert not np.asarray(out)[blind_BL].any()
    assert not np.asarray(grads[0])[blind_BL].any()
    assert all(np.isfinite(grad).all() for grad in grads)
    nobody = mask._replace(segment_BL=jnp.zeros_like(mask.segment_BL))
    out, (grads, _) = run(name, (query, key, value), along, nobody)
    assert not any(np.asarray(x).any() for x in (out, *grads))


def test_scores_of_thousands_do_not_overflow(name, windowed):
    mask, (query, key, value, along) = windowed
    out, (grads, _) = run(name, (1e4 * query, key, value), along, mask)
    assert all(np.isfinite(x).all() for x in (out, *grads))
    assert np.abs(out).max() > 0.1


def test_bfloat16_is_within_two_hundredths_of_float64(name, windowed):
    mask, (*given, along) = windowed
    given = tuple(x.astype(jnp.bfloat16) for x in given)
    out, (grads, _) = run(name, given, along, mask)
    assert out.dtype == jnp.bfloat16
    expected, wanted, _ = reference(*given, along, pairs(mask), None, None, np.ones(1))
    for found, want in zip((out, *grads), (expected, *wanted), strict=True):
        error = np.abs(np.float64(found) - want).max()
        assert error < 0.02 * np.abs(want).max()


def run_with_poison(rule, segment_BL):
    """The result in three blocks, of which the last one's values are not numbers."""
    place_BL = places(segment_BL)
    mask = Mask(segment_BL, place_BL, segment_BL, place_BL, rule=rule)
    rng = np.random.default_rng(0)
    query, key, value, _ = map(jnp.asarray, arrays(rng, lengths=(3 * BLOCK, 3 * BLOCK)))
    value = value.at[:, 2 * BLOCK :].set(jnp.nan)
    out = jax.jit(IMPLEMENTATIONS["blockwise"])(query, key, value, mask)
    return np.isfinite(np.asarray(out)).all((0, 2, 3))


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        (Rule(causal=True), [16, 24]),
        (Rule(window=4), [8, 24]),
        (Rule(block=8), [16, 24]),
        (Rule(block=6), [8, 24]),
        (Rule(window=4, num_global=1), [0, 24]),
        (Rule(), [0, 24]),
    ],
)
def test_blocks_that_no_query_sees_are_not_even_read(rule, reads):
    finite_L = run_with_poison(rule, jnp.ones((B, 3 * BLOCK), int))
    poisoned_L = (np.arange(24) >= reads[0]) & (np.arange(24) < reads[1])
    np.testing.assert_array_equal(finite_L, ~poisoned_L)


def test_neither_are_those_of_padding_or_of_other_texts():
    assert run_with_poison(Rule(), jnp.asarray([[1] * 8 + [2] * 8 + [0] * 8] * B)).all()
    one_text = jnp.asarray([[1] * 16 + [2] * 8, [1] * 8 + [2] * 8 + [3] * 8])
    assert run_with_poison(Rule(), one_text)[:16].all()


def test_blocks_run_under_scan_remat_vmap_and_a_mesh(windowed):
    mask, (query, key, value, along) = windowed

    def twice(query, key, value, mask):
        @jax.checkpoint
        def layer(x, _):
            return IMPLEMENTATIONS["blockwise"](x, key, value, mask), None

        return jax.lax.scan(layer, query, length=2)[0]

    def energy(*given):
        return (twice(*given, mask) * along).sum()

    grad = jax.jit(jax.grad(energy))
    expected = grad(query, key, value)
    mapped = jax.jit(jax.vmap(jax.grad(energy)))(
        *(np.stack([x, 2 * x]) for x in (query, key, value))
    )
    np.testing.assert_allclose(mapped[0], expected, rtol=1e-5, atol=1e-5)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    sharded = grad(*jax.device_put((query, key, value), rows))
    assert sharded.sharding.is_equivalent_to(rows, 4)
    np.testing.assert_allclose(sharded, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("blockwise", 0.0, 1.1), ("plain", 1.9, 2.1)]
)
def test_memory_grows_with_the_length_or_with_its_square(name, low, high):
    lengths = (1024, 2048, 4096)
    attend = {"plain": plain.attend, "blockwise": blockwise.attend}[name]

    def bytes_at(length):
        x_BLHK = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        token_BL = jax.ShapeDtypeStruct((1, length), jnp.int32)
        mask = Mask(token_BL, token_BL, token_BL, token_BL, None, Rule(causal=True))
        grad = jax.grad(lambda *given: attend(*given).sum())
        lowered = jax.jit(grad).lower(x_BLHK, x_BLHK, x_BLHK, mask)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    sizes = [bytes_at(length) for length in lengths]
    slope = np.polyfit(np.log(lengths), np.log(sizes), 1)[0]
    assert low < slope < high, sizes
