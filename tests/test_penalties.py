"""tasks/penalties.py: the objective of tokens, by the papers' formulas and PyTorch."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core import registry
from models.readout import Readout
from tasks import TASKS
from tasks.loss import token_scores
from tasks.penalties import Objective, Penalties, divergence, rows_of
from tests.regularizing import ALL_ON, KEY, TEXTS, V, language, large, rows, score


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

    grade = jax.jit(jax.value_and_grad(total))
    for scale in (1.0, 10.0, 1e10):
        value, grad = grade(scale)
        assert jnp.isfinite(value)
        assert jnp.isfinite(grad)
        assert scale == 1.0 or abs(value) + abs(grad) < 1e-5


def test_a_divergence_is_never_negative_and_zero_of_equals():
    one, other = 3 * jax.random.normal(KEY, (2, 64, 8, V))
    apart, same = jax.jit(lambda a, b: (divergence(a, b), divergence(a, a)))(one, other)
    assert (apart > 0).all()
    assert (same == 0).all()


def test_numbers_at_zero_are_no_part_of_the_program():
    assert Penalties.of(**dict.fromkeys(ALL_ON, 0.0)) == Penalties()
    assert Penalties.of(**ALL_ON) == Penalties(**ALL_ON)
    assert language(**ALL_ON).penalties == Penalties(**ALL_ON)
    assert language().penalties == Penalties()


def test_packed_is_unpacked_and_padding_weighs_nothing():
    task = language(2, **ALL_ON, chunk=4)
    packed, alone = rows(TEXTS, [], []), rows([TEXTS[0]], [TEXTS[1]], [])
    one, other = (score(task, large(), batch) for batch in (packed, alone))
    for name in ("objective", "loss"):
        assert one[name].weight == other[name].weight == 6
        np.testing.assert_allclose(one[name].total, other[name].total, rtol=1e-5)
    assert one["objective"].total != one["loss"].total


def test_two_passes_without_dropout_are_one():
    batch = rows(TEXTS)
    twice = score(language(2, r_drop=4.0), large(), batch)
    np.testing.assert_allclose(twice["objective"].total, twice["loss"].total, rtol=1e-6)
    once = score(language(2), large(), batch)
    np.testing.assert_allclose(twice["loss"].total, once["loss"].total, rtol=1e-6)


def test_two_passes_have_masks_of_their_own_and_the_loss_is_their_mean():
    batch, model = rows(TEXTS), dict(dropout=0.3)
    twice = score(language(2, model=model, r_drop=4.0), large(), batch)
    once = language(2, model=model)
    losses = [score(once, large(), batch, key) for key in jax.random.split(KEY)]
    a, b = (scores["loss"].total for scores in losses)
    assert abs(a - b) > 1e-3
    np.testing.assert_allclose(twice["loss"].total, (a + b) / 2, rtol=1e-6)
    assert twice["objective"].total > twice["loss"].total + 1e-2


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
