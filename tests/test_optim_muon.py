"""Muon, NorMuon and Scion: what they take for a hidden matrix, and how far it moves."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.axes import View, axes_of, views_of
from models.decoder import Decoder
from models.encoder import Encoder
from models.encoder_decoder import EncoderDecoder
from optim.rules.adam import adam
from optim.rules.kinds import KINDS
from optim.rules.muon import by_output, muon, normuon
from optim.rules.scion import scion
from tests.optimizing import SCALES, matrix, normal

SHAPES = {"in": (12, 12), "gate": (12, 30), "out": (30, 12)}


def first_updates(rule):
    """Of a matrix of each shape, from a fresh state."""
    tree = {"mlp": {name: matrix(*shape) for name, shape in SHAPES.items()}}
    return jax.jit(lambda g: rule.update(g, rule.init(g), g)[0])(tree)["mlp"]


@pytest.mark.parametrize("scale", SCALES)
def test_muon_moves_a_matrix_by_its_scale_in_every_direction(scale):
    for name, update in first_updates(muon(scale=scale)).items():
        sizes = np.linalg.svd(update, compute_uv=False) / SCALES[scale](*SHAPES[name])
        assert 0.68 < sizes.min() < sizes.max() < 1.14


def test_muon_with_rms_and_an_exact_factor_moves_elements_by_a_fifth():
    for update in first_updates(muon(coefficients="exact")).values():
        np.testing.assert_allclose(np.sqrt(np.mean(update**2)), 0.2, rtol=1e-5)


def test_normuon_has_the_norm_of_muon_and_outputs_of_one_size_at_first():
    plain, even = first_updates(muon()), first_updates(normuon())
    for name, (_, num_outputs) in SHAPES.items():
        norm = np.linalg.norm(plain[name])
        np.testing.assert_allclose(np.linalg.norm(even[name]), norm, rtol=1e-6)
        columns = np.linalg.norm(even[name], axis=0)
        np.testing.assert_allclose(columns, norm / math.sqrt(num_outputs), rtol=1e-5)


def test_an_output_without_a_gradient_stays_and_keeps_the_norm():
    tx = by_output(0.95)
    u_IO = matrix(6, 5).at[:, 2].set(0.0)
    state, update = tx.init(u_IO), jax.jit(tx.update)
    for _ in range(3):
        found, state = update(u_IO, state)
        assert not found[:, 2].any()
        np.testing.assert_allclose(
            np.linalg.norm(found), np.linalg.norm(u_IO), rtol=1e-6
        )


@pytest.fixture(scope="module")
def trees():
    """The parameters' shapes of models that have every leaf between them."""
    sizes = dict(vocab=19, width=16, num_heads=4, mlp_width=24)
    row = jnp.ones((1, 8), jnp.int32)
    models = {
        "encoder_decoder": (
            EncoderDecoder(
                **sizes,
                num_encoder_layers=2,
                num_decoder_layers=2,
                position="learned",
                max_length=8,
                bias=True,
                qk_norm=True,
            ),
            4,
        ),
        "decoder": (
            Decoder(
                **sizes,
                num_layers=2,
                num_experts=3,
                experts_per_token=2,
                activation="swiglu",
                position="relative",
                tied=False,
                readout_bias=True,
            ),
            2,
        ),
        "encoder": (Encoder(**sizes, num_layers=2, num_types=2, head="transform"), 3),
    }
    return {
        name: jax.eval_shape(
            lambda model=model, rows=rows: model.init(
                jax.random.key(0), *[row] * rows, train=False
            )
        )["params"]
        for name, (model, rows) in models.items()
    }


KIND_OF_AXES = {
    **dict.fromkeys(["DHK", "DGK", "HKD", "DF", "FD", "EDF", "EFD", "DD"], "hidden"),
    **dict.fromkeys(["LD", "SD"], "table"),
    "DE": "router",
    **dict.fromkeys(["RH", "D", "F", "K", "HK", "GK", "V"], "vector"),
}


def test_every_leaf_of_every_model_is_of_its_kind(trees):
    seen = set()
    for tree in trees.values():
        axes, kinds = axes_of(tree), KINDS(tree)
        for letters, kind in zip(*map(jax.tree.leaves, (axes, kinds)), strict=True):
            letters = letters.removeprefix("N")
            seen.add((letters, kind))
            if letters != "VD":
                assert kind == KIND_OF_AXES[letters], letters
    tables = {kind for letters, kind in seen if letters == "VD"}
    assert tables == {"table", "readout"}
    assert {kind for _, kind in seen} == {*KIND_OF_AXES.values(), "readout"}
    ends = {"embed": 0, "type_embed": 0, "place": 0, "unembed": 0, "head": 0}
    wanted = ["table", "table", "table", "readout", "hidden"]
    assert KINDS({"at": ends})["at"] == dict(zip(ends, wanted, strict=True))


def test_only_hidden_matrices_have_momentum_and_only_the_rest_has_adams(trees):
    for tree in trees.values():
        sizes = {"hidden": 0, "rest": 0, "outputs": 0}
        columns = zip(*map(jax.tree.leaves, (tree, KINDS(tree))), strict=True)
        views = jax.tree.leaves(views_of(tree), is_leaf=lambda x: isinstance(x, View))
        for (leaf, kind), view in zip(columns, views, strict=True):
            sizes["hidden" if kind == "hidden" else "rest"] += leaf.size
            sizes["outputs"] += (kind == "hidden") * (leaf.size // view.shape[0])
        found = {
            name: sum(
                leaf.size for leaf in jax.tree.leaves(jax.eval_shape(rule().init, tree))
            )
            for name, rule in (("muon", muon), ("normuon", normuon))
        }
        muons = sizes["hidden"] + 2 * sizes["rest"] + 1  # and Adam's count
        assert found == {"muon": muons, "normuon": muons + sizes["outputs"]}


def three_updates(rule, shapes, chosen=lambda tree: tree):
    """Of three gradients, stacked; `chosen` takes from each what the rule sees."""
    grads = [chosen(normal(shapes, seed)) for seed in range(3)]

    def step(state, now):
        updates, state = rule.update(now, state, now)
        return state, updates

    def run(grads):
        state = rule.init(jax.tree.map(lambda g: g[0], grads))
        return jax.lax.scan(step, state, grads)[1]

    return jax.device_get(jax.jit(run)(jax.tree.map(lambda *g: jnp.stack(g), *grads)))


REST = {"embed": (7, 4), "norm": {"scale": (4,)}, "experts": {"router": (4, 3)}}


@pytest.mark.parametrize("rule", [muon, normuon])
def test_what_is_no_hidden_matrix_moves_as_under_adam_to_the_bit(rule):
    shapes = REST | {"mlp": {"in": (4, 6)}}
    numbers = dict(b1=0.8, b2=0.9, eps=1e-3)
    aux = {f"aux_{key}": number for key, number in numbers.items()}
    found = three_updates(rule(steps=1, **aux), shapes)
    half = three_updates(rule(steps=1, nesterov=False, **aux, aux_share=0.5), shapes)
    pick = lambda tree: {key: tree[key] for key in REST}  # noqa: E731
    wanted = three_updates(adam(**numbers), shapes, pick)
    jax.tree.map(np.testing.assert_array_equal, pick(found), wanted)
    halves = jax.tree.map(lambda u: u / 2, wanted)
    jax.tree.map(np.testing.assert_array_equal, pick(half), halves)


@pytest.mark.parametrize("rule", [muon, normuon, scion])
def test_a_stacked_layer_and_an_expert_move_as_if_alone(rule):
    shapes = {
        "layers": {
            "attention": {"query": (2, 4, 2, 3), "out": (2, 2, 3, 4)},
            "experts": {"in": (2, 3, 4, 6), "router": (2, 4, 3)},
            "norm": {"scale": (2, 4)},
        }
    }
    layer, expert = 1, 2

    def alone(tree):
        tree = jax.tree.map(lambda x: x[layer], tree["layers"])
        attention, experts = tree["attention"], tree["experts"]
        return {
            "head": attention["query"].reshape(4, 6),
            "mlp": {
                "in": experts["in"][expert],
                "out": attention["out"].reshape(6, 4),
            },
            "experts": {"router": experts["router"]},
            "norm": tree["norm"],
        }

    stacked = three_updates(rule(steps=2), shapes)

    single = three_updates(rule(steps=2), shapes, alone)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    for step in range(3):
        now = jax.tree.map(lambda x, step=step: x[step], (stacked, single))
        jax.tree.map(close, alone(now[0]), now[1])


@pytest.mark.parametrize("rule", [muon, normuon, scion])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_without_a_gradient_nothing_moves_and_later_all_is_finite(rule, dtype):
    shapes = REST | {"mlp": {"in": (4, 6), "gate": (4, 0)}}
    grads = jax.tree.map(lambda x: x.astype(dtype), normal(shapes))
    zero = jax.tree.map(jnp.zeros_like, grads)

    tx = rule(steps=2)
    update = jax.jit(tx.update)
    still, state = update(zero, tx.init(grads), grads)
    moved, state = update(grads, state, grads)
    jax.tree.map(np.testing.assert_array_equal, still, zero)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((moved, state)))
    assert all(x.any() for x in jax.tree.leaves(moved) if x.size)
