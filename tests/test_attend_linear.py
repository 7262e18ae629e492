"""models/attend/linear.py: sums in place of scores, against weights one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attend import linear
from models.attend.features import Elu, random_features, scores
from models.attend.mask import Mask, Rule
from models.packing import places

B, L, H, G, K = 2, 21, 4, 2, 8
FEATURES = {"elu": Elu(), "random": random_features(24, K)}
# Texts that end in a chunk, with one, and over several; padding before and after them.
SEGMENT_BL = jnp.array(
    [[0, 0, 1, 1, 1, 2, 3, 3] + [4] * 11 + [0, 0], [1] * 4 + [2] * 8 + [3] * 9]
)
MASK = Mask(SEGMENT_BL, places(SEGMENT_BL), SEGMENT_BL, places(SEGMENT_BL))


@pytest.fixture(params=FEATURES)
def name(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["causal", "both ways"])
def mask(request):
    return MASK._replace(rule=Rule(causal=request.param))


@pytest.fixture(scope="module")
def given():
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((B, L, H, K), (B, L, G, K), (B, L, G, K))
    return tuple(jax.random.normal(*of) for of in zip(keys, shapes, strict=True))


def exact(features, query, key, value, visible_BLM):
    """By its definition, in float64: every weight, made relative by numpy."""

    def of(found):
        logs = np.log(np.float64(found.feature)) + np.float64(found.log)[..., None]
        return np.exp(logs)

    query, key = of(features.of_query(query)), of(features.of_key(key))
    key, value = (np.repeat(x, H // G, axis=2) for x in (key, np.float64(value)))
    weight = np.einsum("BLHZ,BMHZ->BHLM", query, key) * visible_BLM[:, None]
    total = weight.sum(-1, keepdims=True)
    return np.einsum("BHLM,BMHK->BLHK", weight / np.where(total, total, 1), value)


@functools.partial(jax.jit, static_argnames=("name", "chunk"))
def run(name, given, mask, chunk=8):
    """The result, and the gradients of an energy of it."""

    def energy(given):
        out = linear.attend(*given, mask, features=FEATURES[name], chunk=chunk)
        return (out**3).sum(), out

    (_, out), grads = jax.value_and_grad(energy, has_aux=True)(given)
    return out, grads


def test_chunks_agree_with_weights_one_by_one(name, mask, given):
    expected = exact(FEATURES[name], *given, np.asarray(mask.visible()))
    np.testing.assert_allclose(
        run(name, given, mask)[0], expected, rtol=1e-5, atol=1e-5
    )


def test_the_recurrent_form_is_the_parallel_one(name, mask, given):
    parallel, recurrent = run(name, given, mask), run(name, given, mask, chunk=1)
    np.testing.assert_allclose(recurrent[0], parallel[0], rtol=1e-5, atol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, recurrent[1], parallel[1])


def test_gradients_are_those_of_the_weights_one_by_one(name, mask, given):
    features, visible_BLM = FEATURES[name], mask.visible()

    @jax.jit
    @jax.grad
    def wanted(given):
        query, key, value = given
        query, key = features.of_query(query), features.of_key(key)
        feature, log, value = (jnp.repeat(x, H // G, axis=2) for x in (*key, value))
        weight = jnp.einsum("BLHZ,BMHZ->BHLM", query.feature, feature)
        weight *= jnp.exp(jnp.einsum("BMH->BHM", log))[:, :, None]
        weight *= visible_BLM[:, None]
        total = weight.sum(-1, keepdims=True)
        weight /= jnp.where(total > 0, total, 1)
        return (jnp.einsum("BHLM,BMHK->BLHK", weight, value) ** 3).sum()

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, run(name, given, mask)[1], wanted(given))


def test_what_is_not_visible_has_no_influence_at_all(name, mask, given):
    out, grads = run(name, given, mask)
    padding_BL = np.asarray(SEGMENT_BL == 0)
    assert not any(np.asarray(x)[padding_BL].any() for x in (out, *grads))
    second_BL = np.asarray(SEGMENT_BL == 2)
    hidden_BM = second_BL | padding_BL
    changed = tuple(np.where(hidden_BM[..., None, None], 1e4, x) for x in given[1:])
    changed_out, changed_grads = run(name, (given[0], *changed), mask)
    shown_BL = ~hidden_BM
    np.testing.assert_array_equal(np.asarray(changed_out)[shown_BL], out[shown_BL])
    for grad, was in zip(changed_grads, grads, strict=True):
        assert np.isfinite(grad).all()
        np.testing.assert_array_equal(np.asarray(grad)[shown_BL], was[shown_BL])


def test_the_softmax_of_scores_over_a_cache_weighs_the_same(name, given):
    query, key, value = given
    mask = MASK._replace(rule=Rule(causal=True))
    at = L - 1  # the second row's last token, which sees places 12 to 20
    query_BGQK = query[:, at].reshape(B, G, H // G, K)
    key_BGMK = jnp.einsum("BMGK->BGMK", key)
    weight_BGQM = jax.nn.softmax(
        scores(query_BGQK, key_BGMK, FEATURES[name]),
        where=mask.visible()[:, at][:, None, None],
    )
    found = jnp.einsum("BGQM,BMGK->BGQK", weight_BGQM, value).reshape(B, H, K)
    expected = run(name, given, mask)[0][:, at]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_keys_of_any_size_leave_weights_finite(name, mask, given):
    query, key, value = given
    out, grads = run(name, (query, 30 * key, value), mask)
    assert all(np.isfinite(x).all() for x in (out, *grads))
    assert np.abs(out).max() > 0.1


def test_random_features_are_unbiased_and_their_error_falls_as_the_root():
    query, key = np.random.default_rng(0).normal(size=(2, 16, K)).astype(np.float32)
    query, key = jnp.asarray(query / (2 * K**0.5)), jnp.asarray(key / 2)
    expected = np.exp(np.einsum("LK,LK->L", query, key))
    errors, means = [], []
    for num_features in (16, 64, 256):
        draws = []
        for seed in range(100):
            features = random_features(num_features, K, seed)
            q, k = features.of_query(query), features.of_key(key)
            kernel = (np.asarray(q.feature) * k.feature).sum(-1)
            draws.append(kernel * np.exp(np.asarray(q.log) + k.log))
        relative = np.stack(draws) / expected - 1
        errors.append(np.sqrt((relative**2).mean()))
        means.append(np.abs(relative.mean(0)).max() / relative.std(0).max())
    assert max(means) < 4 / 100**0.5
    slope = np.polyfit(np.log((16, 64, 256)), np.log(errors), 1)[0]
    assert -0.7 < slope < -0.4, errors


def test_random_features_stand_at_right_angles_and_are_the_same_each_time():
    place_ZK = random_features(2 * K, K).place_ZK
    for turn_ZK in (place_ZK[:K], place_ZK[K:]):
        product_ZZ = turn_ZK @ turn_ZK.T
        np.testing.assert_allclose(product_ZZ, np.diag(np.diag(product_ZZ)), atol=1e-5)
    np.testing.assert_array_equal(place_ZK, random_features(2 * K, K).place_ZK)
    assert (random_features(2 * K, K, seed=1).place_ZK != place_ZK).all()


def test_memory_grows_with_the_length():
    lengths = (1024, 2048, 4096)

    def bytes_at(length):
        x_BLHK = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        token_BL = jax.ShapeDtypeStruct((1, length), jnp.int32)
        mask = Mask(token_BL, token_BL, token_BL, token_BL, None, Rule(causal=True))
        grad = jax.grad(lambda *x: linear.attend(*x, features=Elu()).sum())
        lowered = jax.jit(grad).lower(x_BLHK, x_BLHK, x_BLHK, mask)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    sizes = [bytes_at(length) for length in lengths]
    assert np.polyfit(np.log(lengths), np.log(sizes), 1)[0] < 1.1, sizes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(rule=Rule(causal=True, window=3)), "take no window"),
        (dict(rule=Rule(block=3)), "no block"),
        (dict(prefix_BM=SEGMENT_BL > 1), "no prefix"),
        (
            dict(memory_segment_BM=SEGMENT_BL[:, :5]),
            "are self-attention: there are 21 queries and 5 keys",
        ),
    ],
)
def test_what_sums_cannot_do_is_refused(changes, match, given):
    with pytest.raises(ValueError, match=match):
        linear.attend(*given, MASK._replace(**changes), features=Elu())
