"""What regularizes in models/ and tasks/: drop_layers.py, penalties.py, their words."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from core import registry
from core.trees import name_of
from models.attend.mask import Mask
from models.attention import Attention
from models.block import Block, Mode, Sight
from models.decoder import Decoder
from models.drop_layers import kept_of
from models.embedding import Entrance
from models.mlp import Mlp
from models.packing import places
from models.readout import Readout
from models.settings import Settings
from tasks import TASKS
from tasks.language import Language
from tasks.loss import token_scores
from tasks.penalties import Objective, Penalties, divergence, rows_of

KEY = jax.random.key(0)
V = 7
SIZES = dict(width=8, num_heads=2, mlp_width=12)
RATES = ("word_dropout", "drop_connect", "layer_drop")
ON = dict.fromkeys(RATES, 0.3)
TEXTS = [[4, 5, 6, 1, 2], [6, 3, 1]]


def rows(*texts_of_rows):
    """A batch of rows of 10 places, each of some texts."""
    read_BL, next_BL, segment_BL = np.zeros((3, len(texts_of_rows), 10), np.int32)
    for row, texts in enumerate(texts_of_rows):
        place = 0
        for segment, text in enumerate(texts, 1):
            stretch = slice(place, place + len(text) - 1)
            read_BL[row, stretch], next_BL[row, stretch] = text[:-1], text[1:]
            segment_BL[row, stretch] = segment
            place += len(text) - 1
    batch = dict(input_BL=read_BL, target_BL=next_BL, segment_BL=segment_BL)
    return jax.tree.map(jnp.asarray, batch)


def language(num_layers=1, *, model=(), **words):
    return Language(
        Decoder(vocab=V, num_layers=num_layers, **SIZES, **dict(model)), **words
    )


def score(task, params, batch, key=KEY, *, train=True):
    return jax.jit(functools.partial(task.score, train=train))(params, batch, key)


@pytest.fixture(scope="module")
def params():
    """Of `language(2)`, larger than at the start."""
    fresh = jax.jit(language(2).init)(KEY)
    return jax.tree.map(lambda leaf: 1.5 * leaf, fresh)


# The objective of tokens.


@pytest.fixture(scope="module")
def tokens():
    """Features of two passes, a table, targets and weights."""
    rng = np.random.default_rng(0)
    x, again, table = (rng.normal(size=s) for s in ((3, 5, 4), (3, 5, 4), (V, 4)))
    target_BL = rng.integers(0, V, (3, 5), np.int32)
    weight_BL = (rng.random((3, 5)) < 0.8).astype("f4")
    return *(a.astype("f4") for a in (x, again, table)), target_BL, weight_BL


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
def dense(x, again, table, target_BL, weight_BL, n):
    """The formula as the papers have it: probabilities, one-hot targets, two KLs."""

    def one(x):
        p = jax.nn.softmax(x @ table.T)
        log_p = jnp.log(p)
        hot = jax.nn.one_hot(target_BL, V, dtype=p.dtype)
        q = optax.smooth_labels(hot, n["smoothing"])
        loss = -(q * log_p).sum(-1) + n["poly"] * (q * (1 - p)).sum(-1)
        loss *= (1 - (hot * p).sum(-1)) ** n["focal"]
        loss += n["z_loss"] * jnp.log(jnp.exp(x @ table.T).sum(-1)) ** 2
        return loss + n["confidence_penalty"] * (p * log_p).sum(-1), p

    loss, p = one(x)
    if again is None:
        return (loss * weight_BL).sum()
    other, q = one(again)
    kl = (p * jnp.log(p / q)).sum(-1) + (q * jnp.log(q / p)).sum(-1)
    return (((loss + other) / 2 + n["r_drop"] / 4 * kl) * weight_BL).sum()


ALL_ON = dict(
    smoothing=0.1, z_loss=0.1, confidence_penalty=0.3, focal=0.5, poly=-0.7, r_drop=5.0
)


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize(
    "on", [["confidence_penalty"], ["focal", "poly"], ["r_drop"], ALL_ON]
)
def test_the_objective_and_its_gradients_are_those_of_the_formula(tokens, on, chunk):
    x, again, table, target_BL, weight_BL = tokens
    numbers = {name: ALL_ON[name] for name in on}
    if "r_drop" not in on:
        again = None

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    def ours(x, again, table, numbers):
        given = x, Readout(table), *map(jnp.asarray, (target_BL, weight_BL))
        more = dict(penalties=Penalties(**numbers), chunk=chunk, again_BLD=again)
        return token_scores(*given, **more)["objective"].total

    actual, grads = ours(x, again, table, numbers)
    with jax.enable_x64(True):
        whole = dict.fromkeys(ALL_ON, 0.0) | numbers
        given = jax.tree.map(lambda a: a.astype("f8"), (x, again, table))
        expected, wanted = dense(*given, target_BL, weight_BL, whole)
        expected, wanted = jax.tree.map(np.asarray, (expected, wanted))
    np.testing.assert_allclose(actual, expected, rtol=2e-6)
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6)
    jax.tree.map(compare, grads, wanted)


def test_it_equals_what_torch_gives():
    """F.cross_entropy(label_smoothing=), Categorical.entropy and R-Drop's page."""
    at = np.arange(12.0).reshape(1, 3, 4)
    z, w = (2 * f(at).astype("f4") for f in (np.sin, np.cos))
    target_BL = jnp.array([[0, 3, 1]])

    def total(**numbers):
        found = rows_of(jnp.asarray(z), target_BL, Penalties(**numbers))
        return found.objective_BL.sum()

    np.testing.assert_allclose(total(smoothing=0.1), 4.524972854234068, rtol=1e-6)
    entropy = total() - total(confidence_penalty=1.0)
    np.testing.assert_allclose(entropy, 2.5755552103008807, rtol=1e-6)
    scores = token_scores(
        jnp.asarray(z),
        Readout(jnp.eye(4)),
        target_BL,
        jnp.ones((1, 3)),
        penalties=Penalties(r_drop=2 * 0.7),
        chunk=0,
        again_BLD=jnp.asarray(w),
    )
    np.testing.assert_allclose(scores["objective"].total, 6.216157986130547, rtol=1e-6)


@pytest.mark.parametrize("focal", [0.3, 2.0])
def test_a_certain_prediction_has_finite_gradients(focal):
    def total(scale):
        logit_BLV = scale * jnp.array([[[4.0, -3.0, 0.0]]])
        numbers = Penalties(focal=focal, poly=1.0, confidence_penalty=0.1)
        return rows_of(logit_BLV, jnp.array([[0]]), numbers).objective_BL.sum()

    for scale in (1.0, 10.0, 1e10):
        value, grad = jax.value_and_grad(total)(scale)
        assert jnp.isfinite(value)
        assert jnp.isfinite(grad)
        assert scale == 1.0 or abs(value) + abs(grad) < 1e-5


def test_a_divergence_is_never_negative_and_zero_of_equals():
    one, other = 3 * jax.random.normal(KEY, (2, 64, 8, V))
    assert (divergence(one, other) > 0).all()
    assert (divergence(one, one) == 0).all()


def test_numbers_at_zero_are_no_part_of_the_program():
    assert Penalties.of(**dict.fromkeys(ALL_ON, 0.0)) == Penalties()
    assert Penalties.of(**ALL_ON) == Penalties(**ALL_ON)
    assert language(**ALL_ON).penalties == Penalties(**ALL_ON)
    assert language().penalties == Penalties()


def test_packed_is_unpacked_and_padding_weighs_nothing(params):
    task = language(2, **ALL_ON, chunk=4)
    packed, alone = rows(TEXTS), rows([TEXTS[0]], [TEXTS[1]], [])
    one, other = (score(task, params, batch) for batch in (packed, alone))
    for name in ("objective", "loss"):
        assert one[name].weight == other[name].weight == 6
        np.testing.assert_allclose(one[name].total, other[name].total, rtol=1e-5)
    assert one["objective"].total != one["loss"].total


# R-Drop: two forward passes.


def test_two_passes_without_dropout_are_one(params):
    batch = rows(TEXTS)
    twice = score(language(2, r_drop=4.0), params, batch)
    np.testing.assert_allclose(twice["objective"].total, twice["loss"].total, rtol=1e-6)
    once = score(language(2), params, batch)
    np.testing.assert_allclose(twice["loss"].total, once["loss"].total, rtol=1e-6)


def test_two_passes_have_masks_of_their_own_and_the_loss_is_their_mean(params):
    batch, model = rows(TEXTS), dict(dropout=0.3)
    twice = score(language(2, model=model, r_drop=4.0), params, batch)
    once = language(2, model=model)
    losses = [score(once, params, batch, key) for key in jax.random.split(KEY)]
    a, b = (scores["loss"].total for scores in losses)
    assert abs(a - b) > 1e-3
    np.testing.assert_allclose(twice["loss"].total, (a + b) / 2, rtol=1e-6)
    assert twice["objective"].total > twice["loss"].total + 1e-2


# The words of models.


def test_a_model_that_does_not_train_is_the_plain_one(params):
    batch = rows(TEXTS)
    plain = score(language(2), params, batch, train=False)["loss"].total
    task = language(2, model=ON | dict(layer_drop_kind="branch"), **ALL_ON)
    for name in ("objective", "loss"):
        assert score(task, params, batch, train=False)[name].total == plain


THREEFRY = pytest.param("threefry", marks=pytest.mark.slow)


@pytest.mark.parametrize("generator", ["hash", THREEFRY])
def test_traced_and_mapped_rates_equal_static_ones(params, generator):
    batch = rows(TEXTS, TEXTS)

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


def test_what_is_dropped_does_not_depend_on_the_mesh(params):
    batch = rows(*[TEXTS] * 8)
    task = language(2, model=ON, **ALL_ON | dict(r_drop=0.0))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    one, four = (score(task, params, b)["objective"].total for b in (batch, spread))
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
        params = module.init(KEY, x_BLD, *given, train=False)["params"]
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


def test_a_row_skips_whole_layers_and_keeps_the_others_as_they_are(params):
    token_BL = jnp.tile(jnp.array([[4, 5, 6, 3]]), (512, 1))
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
    kept = kept_of(settings, KEY, (3, 20_000, 1, 1), cross=True)
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


# Configs.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (dict(poly=-2.0), r"task.poly=-2.0 must lie in \[-1, inf\)"),
        (dict(r_drop=-1.0), r"task.r_drop=-1.0 must lie in \[0, inf\)"),
        (dict(focall=1.0), r"task.focall=1.0 is not known. Did you mean 'focal'"),
    ],
)
def test_a_wrong_objective_is_refused_in_one_line(words, message):
    block = registry.Block(TASKS, given=("model",))
    registry.check(dict(name="language", focal=1.0), block, "task")
    with pytest.raises(ValueError, match=message):
        registry.check(dict(name="language") | words, block, "task")


def test_the_page_on_models_has_every_word_of_the_objective():
    page = (pathlib.Path(__file__).parent.parent / "docs" / "models.md").read_text()
    for word in Objective.__dataclass_fields__:
        assert f"| `{word}` [0" in page
