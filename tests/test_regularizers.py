"""What regularizes in models/: words, connections and layers that are dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from core.trees import name_of
from models.attend.mask import Mask
from models.attention import Attention
from models.block import Block, Mode, Sight
from models.drop_layers import kept_of
from models.embedding import Entrance
from models.mlp import Mlp
from models.packing import places
from models.settings import Settings
from tests.regularizing import (
    ALL_ON,
    KEY,
    SIZES,
    TEXTS,
    V,
    language,
    large,
    rows,
    score,
)

RATES = ("word_dropout", "drop_connect", "layer_drop")
ON = dict.fromkeys(RATES, 0.3)


def test_a_model_that_does_not_train_is_the_plain_one():
    batch = rows(TEXTS)
    plain = score(language(2), large(), batch, train=False)["loss"].total
    task = language(2, model=ON | dict(layer_drop_kind="branch"), **ALL_ON)
    for name in ("objective", "loss"):
        assert score(task, large(), batch, train=False)[name].total == plain


THREEFRY = pytest.param("threefry", marks=pytest.mark.slow)


@pytest.mark.parametrize("generator", ["hash", THREEFRY])
def test_traced_and_mapped_rates_equal_static_ones(generator):
    params, batch = large(), rows(TEXTS, TEXTS)

    def loss(rates):
        model = rates | dict(generator=generator, layer_drop_kind="branch")
        task = language(2, model=model)
        return task.score(params, batch, KEY, train=True)["objective"].total

    low, high = ({k: jnp.float32(r) for k in RATES} for r in (0.1, 0.3))
    run = jax.jit(loss)
    found = np.array([run(low), run(high)])
    assert run._cache_size() == 1
    assert abs(found[0] - found[1]) > 1e-3
    both = jax.tree.map(lambda *r: jnp.stack(r), low, high)
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(both), found, rtol=1e-5)
    static = jax.jit(lambda: loss(ON))()
    np.testing.assert_allclose(static, found[1], rtol=1e-5)


def test_what_is_dropped_does_not_depend_on_the_mesh():
    batch = rows(*[TEXTS] * 8)
    task = language(2, model=ON, **ALL_ON | dict(r_drop=0.0))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    one, four = (score(task, large(), b)["objective"].total for b in (batch, spread))
    np.testing.assert_allclose(one, four, rtol=1e-5)


def test_a_word_is_dropped_whole_its_position_stays_and_the_mean_too():
    settings = Settings(**SIZES, word_dropout=0.3)
    place_BL = jnp.broadcast_to(jnp.arange(100), (200, 100))
    x_BLD = jax.random.normal(KEY, (200, 100, 8))

    @functools.partial(jax.jit, static_argnames="train")
    def enter(x_BLD, train):
        given = dict(room=100, train=train, rngs={"dropout": KEY})
        return Entrance(settings).apply({}, x_BLD, place_BL, **given)

    places_BLD = enter(jnp.zeros_like(x_BLD), train=False)
    word_BLD = enter(x_BLD, train=True) - places_BLD
    dropped_BL = (word_BLD == 0).all(-1)
    assert abs(dropped_BL.mean() - 0.3) < 5 * np.sqrt(0.21 / dropped_BL.size)
    expected_BLD = jnp.where(dropped_BL[..., None], 0, x_BLD / 0.7)
    np.testing.assert_allclose(word_BLD, expected_BLD, atol=1e-5)


def mean_over_masks(apply):
    """Mean over 4,096 masks, in standard errors from what is not trained."""
    keys = jax.random.split(KEY, 4096)
    found = jax.jit(jax.vmap(lambda key: apply(True, key)))(keys)
    assert not np.array_equal(found[0], found[1])
    error = found.std(0) / np.sqrt(len(keys)) + 1e-6
    return (found.mean(0) - apply(False, KEY)) / error


def test_the_mean_over_dropped_connections_is_all_of_them():
    """Where the layer is linear in each kernel: a relu of what is positive, and
    attention that sees all alike, for its queries are zero."""
    settings = Settings(**SIZES, drop_connect=0.3)
    x_BLD = jnp.abs(jax.random.normal(KEY, (1, 3, 8)))
    segment_BL = jnp.ones((1, 3), jnp.int32)
    mask = Mask(*(segment_BL, places(segment_BL)) * 2)
    for module, given in ((Mlp(settings), ()), (Attention(settings), (x_BLD, mask))):
        init = jax.jit(functools.partial(module.init, train=False))
        params = init(KEY, x_BLD, *given)["params"]
        params = jax.tree.map(jnp.abs, params)
        if "query" in params:
            params["query"] *= 0

        def apply(train, key, module=module, params=params, given=given):
            rngs = {"dropout": key}
            return module.apply(
                {"params": params}, x_BLD, *given, train=train, rngs=rngs
            )

        z = mean_over_masks(apply)
        assert np.abs(z).max() < 5
        assert np.abs(z).max() > 0.1


@pytest.mark.parametrize("num_experts", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_every_kernel_of_a_block_loses_its_share_and_nothing_else_does(num_experts):
    words = dict(activation="swiglu", num_experts=num_experts, bias=not num_experts)
    model = dict(drop_connect=0.4, readout_bias=True) | words
    task, batch = language(2, model=model), rows(*[TEXTS, TEXTS[::-1]] * 4)
    params = jax.jit(task.init)(KEY)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)

    @jax.jit
    @jax.grad
    def grad(params):
        return task.score(params, batch, KEY, train=True)["objective"].total

    seen = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(grad(params)):
        *_, role = name_of(path).split("/")
        kernel = role in ("query", "key", "value", "out", "in", "gate")
        lost = (leaf == 0).mean()
        seen.add(role)
        if kernel:
            assert abs(lost - 0.4) < 5 * np.sqrt(0.24 / leaf.size), path
            assert not np.array_equal(leaf[0] == 0, leaf[1] == 0)
        else:
            assert lost <= (1 / V if role == "embed" else 0), path
    assert {"query", "key", "value", "out", "in", "gate", "embed", "scale"} <= seen


@functools.partial(jax.jit, static_argnames=("N", "rate"))
def logits_of(params, token_BL, *, N, rate):
    model = language(N, model=dict(layer_drop=rate)).model
    rngs = {"dropout": KEY}
    return model.apply(
        {"params": params}, token_BL, token_BL * 0 + 1, train=True, rngs=rngs
    )


def test_a_row_skips_whole_layers_and_keeps_the_others_as_they_are():
    token_BL = jnp.tile(jnp.array([[4, 5, 6, 3]]), (512, 1))
    params = large()
    found_BLV = logits_of(params, token_BL, N=2, rate=0.3)
    layers = params["decoder"]["layers"]
    share = 0
    for kept in ([], [0], [1], [0, 1]):
        less = jax.tree.map(lambda leaf, kept=kept: leaf[np.array(kept, int)], layers)
        some = params | {"decoder": params["decoder"] | {"layers": less}}
        if kept:
            wanted_BLV = logits_of(some, token_BL[:1], N=len(kept), rate=0.0)
        else:
            zero = jax.tree.map(jnp.zeros_like, layers)
            some["decoder"]["layers"] = zero
            wanted_BLV = logits_of(some, token_BL[:1], N=2, rate=0.0)
        same_B = jnp.isclose(found_BLV, wanted_BLV, atol=1e-5).all((1, 2))
        p = 0.7 ** len(kept) * 0.3 ** (2 - len(kept))
        assert abs(same_B.mean() - p) < 5 * np.sqrt(p * (1 - p) / 512), kept
        share += same_B.mean()
    assert share == 1


def test_branches_are_skipped_more_often_the_deeper_and_keep_their_mean():
    settings = Settings(**SIZES, layer_drop=0.6, layer_drop_kind="branch")
    kept = jax.jit(lambda: kept_of(settings, KEY, (3, 20_000, 1, 1), cross=True))()
    assert list(kept) == ["attention", "cross", "mlp"]
    for kept_NB11 in kept.values():
        share_N = (kept_NB11 == 0).mean((1, 2, 3))
        np.testing.assert_allclose(share_N, [0.2, 0.4, 0.6], atol=0.02)
        np.testing.assert_allclose(kept_NB11.mean((1, 2, 3)), 1, atol=0.04)
    one, two, _ = kept.values()
    assert abs(np.corrcoef(one[2].ravel(), two[2].ravel())[0, 1]) < 0.04


@pytest.mark.parametrize(
    "norm", ["pre", "sandwich", pytest.param("post", marks=pytest.mark.slow)]
)
def test_a_branch_is_multiplied_where_it_is_added(norm):
    settings = Settings(**SIZES, norm=norm)
    x_BLD = jax.random.normal(KEY, (2, 3, 8))
    segment_BL = jnp.ones((2, 3), jnp.int32)
    sight = Sight(Mode(True), Mask(*(segment_BL, places(segment_BL)) * 2))
    block = Block(settings)
    params = jax.jit(lambda: block.init(KEY, x_BLD, {}, sight))()

    @jax.jit
    def apply(**kept):
        kept = {name: jnp.full((2, 1, 1), by) for name, by in kept.items()}
        return block.apply(params, x_BLD, kept, sight)[0]

    np.testing.assert_allclose(apply(attention=1.0, mlp=1.0), apply(), atol=1e-5)
    np.testing.assert_array_equal(apply(layer=0.0), x_BLD)
    nothing = apply(attention=0.0, mlp=0.0)
    if norm == "post":
        assert not np.array_equal(nothing, x_BLD)  # the norms stay
        return
    np.testing.assert_array_equal(nothing, x_BLD)
    once, twice = (apply(attention=by, mlp=0.0) for by in (1.0, 2.0))
    np.testing.assert_allclose(twice - x_BLD, 2 * (once - x_BLD), atol=1e-5)
