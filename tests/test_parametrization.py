"""models/parametrization.py: the coordinate check, and whose rate is whose."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core.trees import name_of
from models import parametrization
from models.attend.mask import Mask
from models.attention import Attention
from models.decoder import Decoder, check
from models.settings import Settings
from optim import make
from optim.sizes import sizes_of
from tests.runs import tiny
from train.assemble import check as check_run

V, L, BASE = 29, 16, 32
TOKEN_BL = jax.random.randint(jax.random.key(0), (4, L), 4, V)
ONES_BL = jnp.ones_like(TOKEN_BL)


def decoder(width, kind, **words):
    muP = dict(parametrization="mup", base_width=BASE, base_head_width=BASE // 2)
    return Decoder(
        vocab=V,
        width=width,
        num_layers=1,
        num_heads=2,
        mlp_width=4 * width,
        embed="unit",
        tied=False,
        **(muP if kind == "mup" else {}),
        **words,
    )


def fresh(model):
    return jax.jit(lambda key: model.init(key, TOKEN_BL, ONES_BL, train=False))(
        jax.random.key(0)
    )


def logit_change(width, kind, rule, peak=0.01, readout=0.0, num_steps=3):
    """The mean size of what a few steps change in the logits.

    `readout` is the size of its weights at the start; 0 leaves those of the model.
    """
    model = decoder(width, kind)
    tx, _ = make(
        rule=rule,
        schedule=dict(name="constant", warmup_steps=0, peak=peak),
        num_steps=num_steps,
        factors=parametrization.rates(model),
    )

    def logits(params):
        return model.apply({"params": params}, TOKEN_BL, ONES_BL, train=False)

    def loss(params):
        next_BL = jnp.roll(TOKEN_BL, -1, axis=1)
        nats_BL = optax.softmax_cross_entropy_with_integer_labels(
            logits(params), next_BL
        )
        return nats_BL.mean()

    def change(key):
        params = model.init(key, TOKEN_BL, ONES_BL, train=False)["params"]
        if readout:
            shape = params["embedding"]["unembed"].shape
            weights = readout * jax.random.normal(key, shape)
            params["embedding"]["unembed"] = weights
        first_BLV = logits(params)

        def step(carried, number):
            params, state = carried
            grads = jax.grad(loss)(params)
            updates, state = tx.update(grads, state, params, step=number)
            return (optax.apply_updates(params, updates), state), None

        carried = (params, tx.init(params))
        (params, _), _ = jax.lax.scan(step, carried, jnp.arange(num_steps))
        return jnp.abs(logits(params) - first_BLV).mean()

    return jax.jit(jax.vmap(change))(jax.random.split(jax.random.key(0), 2)).mean()


def slope(kind, rule, widths, **options):
    """Of the change over the width, both as logarithms."""
    changes = [logit_change(width, kind, rule, **options) for width in widths]
    return np.polyfit(np.log(widths), np.log(changes), 1)[0]


ADAM = dict(name="adam", b1=0.9, b2=0.95, eps=1e-12)


def test_a_step_changes_the_logits_alike_at_every_width():
    assert abs(slope("mup", ADAM, (32, 128))) < 0.05
    assert slope("standard", ADAM, (32, 128)) > 0.2


def test_under_gradient_descent_too():
    sgd = dict(name="sgd", momentum=0.9)
    assert abs(slope("mup", sgd, (32, 128), peak=0.1)) < 0.1


@pytest.mark.slow
def test_under_rules_of_matrices_hidden_ones_move_the_logits_as_under_adam():
    """A readout that is not zero, so they have a gradient, and that hardly moves."""
    adam, *muons = (
        slope("mup", rule, (32, 128), peak=peak, readout=1.0)
        for rule, peak in (
            (ADAM, 0.01),
            (dict(name="muon", scale="rms", aux_share=1e-3), 0.05),
            (dict(name="muon", scale="shape", aux_share=1e-3), 0.05),
        )
    )
    np.testing.assert_allclose(muons, adam, atol=0.15)


def test_factors_are_by_the_size_of_the_updates():
    model = decoder(128, "mup")
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), TOKEN_BL, ONES_BL, train=False)
    )["params"]
    for rule, query, embed in (
        (ADAM, BASE / 128, 1.0),
        (dict(name="muon"), (BASE / 128) ** 0.5, 1.0),
        (dict(name="normuon", scale="shape"), 1.0, 1.0),
        (dict(name="dog"), 1.0, 128 / BASE),
    ):
        factors = parametrization.rates(model)(shapes, sizes_of(rule)(shapes))
        found = {
            name_of(path).rpartition("/")[2]: factor
            for path, factor in jax.tree_util.tree_leaves_with_path(factors)
        }
        assert (found["query"], found["embed"]) == (query, embed), rule


def test_a_rule_of_unknown_size_is_refused_before_anything_compiles():
    mup = dict(model__parametrization="mup", model__embed="unit")
    mup |= dict(model__base_width=32, model__base_head_width=8)
    config = tiny(optim__rule__name="scion", **mup)
    with pytest.raises(ValueError, match=r"^model.parametrization='mup' .*'scion'"):
        check_run(config)


def test_what_sums_over_a_width_learns_more_slowly():
    model = decoder(
        128, "mup", bias=True, num_experts=2, position="learned", max_length=L
    )
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), TOKEN_BL, ONES_BL, train=False)
    )["params"]
    sizes = lambda size: jax.tree.map(lambda _: size, shapes)  # noqa: E731
    factors = parametrization.rates(model)(shapes, sizes("rate"))
    slow = {
        name_of(path).rpartition("/")[2]
        for path, factor in jax.tree_util.tree_leaves_with_path(factors)
        if factor == BASE / 128
    }
    assert slow == {"query", "key", "value", "out", "in", "router"}
    assert set(jax.tree.leaves(factors)) == {1.0, BASE / 128}
    raw = parametrization.rates(model)(shapes, sizes("gradient"))
    assert set(jax.tree.leaves(raw)) == {1.0, 128 / BASE}
    assert parametrization.rates(decoder(128, "standard")) is None


def test_at_the_base_width_it_is_the_standard_parametrization():
    mup, standard = decoder(BASE, "mup"), decoder(BASE, "standard")
    params, same = map(fresh, (standard, mup))
    assert not same["params"]["embedding"].pop("unembed").any()  # as it departs
    same["params"]["embedding"]["unembed"] = params["params"]["embedding"]["unembed"]
    jax.tree.map(np.testing.assert_array_equal, params, same)
    np.testing.assert_allclose(
        mup.apply(params, TOKEN_BL, ONES_BL, train=False),
        standard.apply(params, TOKEN_BL, ONES_BL, train=False),
        rtol=1e-6,
    )


def test_scores_are_scaled_by_the_width_of_a_head_and_not_its_root():
    """At 4 times the base, by half of what is usual: twice the query undoes it."""
    x_BLD = jax.random.normal(jax.random.key(0), (2, L, 4 * BASE))
    place_BL = jnp.broadcast_to(jnp.arange(L), (2, L))
    mask = Mask(jnp.ones((2, L), int), place_BL, jnp.ones((2, L), int), place_BL)
    sizes = dict(width=4 * BASE, num_heads=2, mlp_width=1)
    usual = Attention(Settings(**sizes))
    mup = dict(parametrization="mup", base_width=BASE, base_head_width=BASE // 2)
    params = usual.init(jax.random.key(1), x_BLD, x_BLD, mask, train=False)
    expected = usual.apply(params, x_BLD, x_BLD, mask, train=False)
    params["params"]["query"] *= 2
    scaled = Attention(Settings(**sizes, **mup))
    actual = scaled.apply(params, x_BLD, x_BLD, mask, train=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_decay_does_not_feel_the_factors():
    model = decoder(128, "mup")
    params = fresh(model)["params"]
    tx, _ = make(
        decay=0.5,
        rule=ADAM,
        schedule=dict(name="constant", warmup_steps=0, peak=0.1),
        num_steps=1,
        factors=parametrization.rates(model),
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params, step=jnp.int32(0))
    kernel, moved = (
        tree["decoder"]["layers"]["mlp"]["in"] for tree in (params, updates)
    )
    np.testing.assert_allclose(moved, -0.05 * kernel, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (dict(base_width=0), "model.parametrization='mup' needs model.base_width > 0"),
        (dict(base_width=8, base_head_width=0), "needs model.base_head_width > 0"),
        (
            dict(base_width=8, base_head_width=4, embed="scaled"),
            "needs model.embed='unit' or 'plain'",
        ),
    ],
)
def test_half_a_parametrization_is_refused(words, message):
    sizes = dict(width=16, num_heads=2, mlp_width=16, num_layers=1)
    with pytest.raises(ValueError, match=message):
        check(**sizes, parametrization="mup", **words)
