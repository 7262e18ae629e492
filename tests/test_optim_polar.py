"""optim/rules/: Muon, NorMuon and Scion, and the polar factors that they move along."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from core.axes import View, axes_of, views_of
from core.registry import Block, check
from models.decoder import Decoder
from models.encoder import Encoder
from models.encoder_decoder import EncoderDecoder
from optim import RULES
from optim.rules.adam import adam
from optim.rules.kinds import KINDS
from optim.rules.muon import by_output, muon, normuon
from optim.rules.polar import JORDAN, MARGIN, POLAR_EXPRESS, polar
from optim.rules.scion import of_matrix, of_rows, of_vector, scion

BOUNDS = {"jordan": (0.68, 1.14), "polar_express": (0.84, 1.13), "exact": (1.0, 1.0)}
SHAPES = [(12, 12), (12, 30), (30, 12)]
SCALES = {
    "rms": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
    "shape": lambda rows, columns: max(1, columns / rows) ** 0.5,
    "none": lambda rows, columns: 1.0,
}


def orthogonal(rows, columns, seed):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    return q if rows >= columns else q.T


def matrix(rows, columns, seed=0):
    """One with singular values from 0.02 of its norm up."""
    rank = min(rows, columns)
    left, right = orthogonal(rows, rank, seed), orthogonal(rank, columns, seed + 1)
    return jnp.asarray(left * np.linspace(0.07, 1, rank) @ right, jnp.float32)


def first_update(rule, **grads):
    """Of a tree with these leaves under `mlp`, from a fresh state."""
    tree = {"mlp": grads}
    return jax.jit(lambda g: rule.update(g, rule.init(g), g)[0])(tree)["mlp"]


def composed(table, x, steps=5):
    for step in range(steps):
        a, b, c = table[min(step, len(table) - 1)]
        x = a * x + b * x**3 + c * x**5
    return x


def fitted(low, high):
    """a, b, c with the least max |1 - a x - b x^3 - c x^5| on [low, high], by Remez."""
    nodes = low + (high - low) * np.array([0, 1 / 3, 3 / 4, 1])
    for _ in range(60):
        system = np.stack([nodes, nodes**3, nodes**5, [1, -1, 1, -1]], axis=1)
        a, b, c, _ = np.linalg.solve(system, np.ones(4))
        inner = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a]).real))
        nodes = np.array([low, *np.clip(inner, low, high), high])
    return np.array([a, b, c])


def test_each_polynomial_of_polar_express_is_the_best_on_what_the_last_one_left():
    odd = np.array([1, 3, 5])
    low, high = 1e-3, 1.0
    for published in POLAR_EXPRESS[:-1]:
        best = fitted(max(low, 0.02407327424182761 * high), high)
        ends = [best @ end**odd for end in (low, high)]
        best = best * 2 / sum(ends)
        np.testing.assert_allclose(published * MARGIN**odd, best, rtol=1e-9)
        low = best @ low**odd
        high = 2 - low
    assert abs(low - 1) < 1e-8
    np.testing.assert_allclose(fitted(1 - 1e-4, 1 + 1e-4), POLAR_EXPRESS[-1], rtol=1e-3)


@pytest.mark.parametrize(
    ("table", "low", "steps", "least", "most"),
    [
        (JORDAN, 0.006, 5, 0.68, 1.14),
        (POLAR_EXPRESS, 1e-3, 5, 0.84, 1.13),
        (POLAR_EXPRESS, 1e-3, 6, 1 - 0.006, 1 + 0.006),
        (POLAR_EXPRESS, 1e-3, 7, 1 - 1e-5, 1 + 1e-5),
    ],
)
def test_the_composed_polynomials_are_near_one(table, low, steps, least, most):
    value = composed(table, np.geomspace(low, 1, 200_000), steps)
    assert least < value.min() < value.max() < most


@pytest.mark.parametrize("coefficients", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_near_one_and_singular_vectors_stay(coefficients, shape):
    g = matrix(*shape)
    found = jax.jit(lambda g: polar(g, coefficients, 5))(g)
    least, most = BOUNDS[coefficients]
    sizes = np.linalg.svd(found, compute_uv=False)
    assert least - 1e-5 < sizes.min() <= sizes.max() < most + 1e-5
    # U p(S) V^T has a symmetric product with U S V^T, as no other rotation has.
    product = np.asarray(found.T @ g)
    np.testing.assert_allclose(product, product.T, atol=2e-6)


@pytest.mark.parametrize("coefficients", BOUNDS)
def test_the_polar_factor_turns_with_its_matrix_and_knows_no_size(coefficients):
    g, left, right = matrix(12, 20), orthogonal(12, 12, 5), orthogonal(20, 20, 6)
    left, right = jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32)
    of = jax.jit(lambda g: polar(g, coefficients, 5))
    plain = of(g)
    np.testing.assert_allclose(of(left @ g @ right), left @ plain @ right, atol=1e-5)
    np.testing.assert_array_equal(jax.jit(lambda g: of(g.T))(g), plain.T)
    for size in (1e-28, 1e-15, 1e30):
        np.testing.assert_allclose(of(size * g), plain, atol=1e-5)


@pytest.mark.parametrize("coefficients", BOUNDS)
def test_a_matrix_of_rank_one_or_none_gets_no_other_directions(coefficients):
    one, other = orthogonal(12, 1, 0), orthogonal(1, 20, 1)
    table = {"jordan": JORDAN, "polar_express": POLAR_EXPRESS}
    size = composed(table[coefficients], 1.0) if coefficients in table else 1.0
    of = jax.jit(lambda g: polar(g, coefficients, 5))
    found = of(jnp.asarray(3 * one @ other, jnp.float32))
    np.testing.assert_allclose(found, size * one @ other, atol=2e-5)
    np.testing.assert_array_equal(of(jnp.zeros((12, 20))), jnp.zeros((12, 20)))
    assert polar(jnp.zeros((0, 3)), coefficients, 5).shape == (0, 3)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_muon_moves_a_matrix_by_its_scale_in_every_direction(scale, shape):
    update = first_update(muon(scale=scale), out=matrix(*shape))["out"]
    sizes = np.linalg.svd(update, compute_uv=False) / SCALES[scale](*shape)
    assert 0.68 < sizes.min() < sizes.max() < 1.14


def test_muon_with_rms_and_an_exact_factor_moves_elements_by_a_fifth():
    for shape in SHAPES[1:]:
        rule = muon(coefficients="exact")
        update = first_update(rule, out=matrix(*shape))["out"]
        np.testing.assert_allclose(np.sqrt(np.mean(update**2)), 0.2, rtol=1e-5)


def test_normuon_has_the_norm_of_muon_and_outputs_of_one_size_at_first():
    for shape in SHAPES[1:]:
        plain = first_update(muon(), out=matrix(*shape))["out"]
        even = first_update(normuon(), out=matrix(*shape))["out"]
        norm = np.linalg.norm(plain)
        np.testing.assert_allclose(np.linalg.norm(even), norm, rtol=1e-6)
        columns = np.linalg.norm(even, axis=0)
        np.testing.assert_allclose(columns, norm / math.sqrt(shape[1]), rtol=1e-5)


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


# Ours are (in, out); the authors', in PyTorch, (out, in).
def muon_of_the_authors(state, g, scale, nesterov=True, b2=None):
    m = state["m"] = 0.95 * state.get("m", 0.0) + 0.05 * g
    x = 0.95 * m + 0.05 * g if nesterov else m
    left, size, right = np.linalg.svd(x.T, full_matrices=False)
    o = left * composed(JORDAN, size / np.linalg.norm(size)) @ right
    if b2 is not None:
        square = np.mean(o * o, axis=-1, keepdims=True)
        v = state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * square
        even = o / (np.sqrt(v) + 1e-10)
        o = even * np.linalg.norm(o) / (np.linalg.norm(even) + 1e-10)
    return SCALES[scale](*g.shape) * o.T


def adam_by_hand(state, g, b1=0.9, b2=0.95, eps=1e-10):
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * g
    v = state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * g**2
    return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def scion_of_the_authors(state, g, w, name, ends="sign", constrained=False):
    d = state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    if name == "embed" and ends == "sign":
        u = 3000.0 / d.shape[1] * np.sign(d)
    elif name == "embed":
        norms = np.linalg.norm(d, axis=1, keepdims=True)
        u = 3000.0 * d / (norms * math.sqrt(d.shape[1]))
    elif name == "in":
        left, size, right = np.linalg.svd(d.T, full_matrices=False)
        size = composed(JORDAN, size / np.linalg.norm(size))
        u = 50.0 * math.sqrt(d.shape[1] / d.shape[0]) * (left * size @ right).T
    else:
        u = 50.0 * d / np.sqrt(np.mean(d * d))
    return u + w if constrained else u


def of_muon(state, g, w, name, **options):
    del w
    if name == "in":
        return muon_of_the_authors(state, g, **options)
    return adam_by_hand(state, g)


RADII = dict(radius=50.0, end_radius=3000.0)
CASES = {
    "muon": (dict(name="muon"), 0.02, dict(scale="rms")),
    "plain momentum": (
        dict(name="muon", nesterov=False, scale="shape"),
        0.02,
        dict(scale="shape", nesterov=False),
    ),
    "normuon": (dict(name="normuon"), 0.02, dict(scale="rms", b2=0.95)),
    "scion": (dict(name="scion", **RADII), 2e-4, dict()),
    "scion in a ball": (
        dict(name="scion", **RADII, ends="rows", constrained=True),
        2e-4,
        dict(ends="rows", constrained=True),
    ),
}
NUM_STEPS = 60
NAMES = ("embed", "in", "scale")


def problem():
    """Start, goal, curve and noise of every parameter; float32 holds them exactly."""
    rng = np.random.default_rng(0)
    shapes = dict(zip(NAMES, [(7, 4), (4, 6), (5,)], strict=True))
    draws = {
        "start": lambda shape: rng.normal(scale=0.5, size=shape),
        "goal": lambda shape: rng.normal(scale=0.5, size=shape),
        "curve": lambda shape: rng.uniform(0.1, 2.0, size=shape),
        "noise": lambda shape: rng.normal(scale=0.5, size=(NUM_STEPS, *shape)),
    }
    return {
        kind: {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
        for kind, draw in draws.items()
    }


def gradient(xp, w, goal, curve, noise):
    return curve * (w - goal) + 0.3 * xp.sin(2 * w) + noise


def follow(rule, peak, given):
    """Parameters after every step."""
    schedule = dict(name="linear", peak=peak, warmup_steps=0)
    tx, _ = optim.make(rule=rule, schedule=schedule, num_steps=NUM_STEPS)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise = now
            of = functools.partial(gradient, jnp)
            grads = jax.tree.map(of, params, {"mlp": goal}, {"mlp": curve}, noise)
            updates, state = tx.update(grads, state, params, step=number)
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), params["mlp"]

        params = {"mlp": start}
        steps = jnp.arange(NUM_STEPS), {"mlp": noise}
        return jax.lax.scan(step, (params, tx.init(params)), steps)[1]

    return jax.device_get(run(**given))


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_that_of_the_authors_formulas_in_float64(case):
    rule, peak, options = CASES[case]
    given = problem()
    found = follow(rule, peak, given)
    by_hand = scion_of_the_authors if rule["name"] == "scion" else of_muon
    for name in NAMES:
        own = {kind: given[kind][name].astype(np.float64) for kind in given}
        w, state = own["start"], {}
        for step in range(NUM_STEPS):
            noise = own["noise"][step]
            g = gradient(np, w, own["goal"], own["curve"], noise)
            rate = peak * (1 - step / NUM_STEPS)
            w = w - rate * by_hand(state, g, w, name, **options)
            np.testing.assert_allclose(found[name][step], w, rtol=0, atol=5e-6)
        assert np.abs(w - own["start"]).max() > 0.1


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


def some(shapes, seed=0):
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    rng = np.random.default_rng(seed)
    draws = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in leaves]
    return jax.tree.unflatten(treedef, draws)


def three_updates(rule, shapes, chosen=lambda tree: tree):
    """Of three gradients, stacked; `chosen` takes from each what the rule sees."""
    grads = [chosen(some(shapes, seed)) for seed in range(3)]

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
    grads = jax.tree.map(lambda x: x.astype(dtype), some(shapes))
    zero = jax.tree.map(jnp.zeros_like, grads)

    tx = rule(steps=2)
    update = jax.jit(tx.update)
    still, state = update(zero, tx.init(grads), grads)
    moved, state = update(grads, state, grads)
    jax.tree.map(np.testing.assert_array_equal, still, zero)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((moved, state)))
    assert all(x.any() for x in jax.tree.leaves(moved) if x.size)


DUALS = {
    # The lmo, the norm of its ball, and the dual norm.
    "hidden": (
        lambda g: of_matrix(g, "exact", 5),
        lambda x: np.linalg.norm(x, 2) * math.sqrt(x.shape[0] / x.shape[1]),
        lambda g: np.linalg.norm(g, "nuc") * math.sqrt(g.shape[1] / g.shape[0]),
    ),
    "sign": (
        lambda g: of_rows(g, "sign"),
        lambda x: x.shape[1] * np.abs(x).max(),
        lambda g: np.abs(g).sum() / g.shape[1],
    ),
    "rows": (
        lambda g: of_rows(g, "rows"),
        lambda x: x.shape[1] * np.sqrt(np.mean(x**2, axis=1)).max(),
        lambda g: np.linalg.norm(g, axis=1).sum() / math.sqrt(g.shape[1]),
    ),
    "vector": (
        of_vector,
        lambda x: np.sqrt(np.mean(x**2)),
        lambda g: np.linalg.norm(g) * math.sqrt(g.size),
    ),
}


@pytest.mark.parametrize("kind", DUALS)
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_scion_moves_to_where_a_unit_ball_reaches_farthest(kind, shape):
    lmo, norm, dual = DUALS[kind]
    g = some(shape)
    found = np.asarray(jax.jit(lmo)(g), np.float64)
    g = np.asarray(g, np.float64)
    np.testing.assert_allclose(norm(found), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.sum(g * found), dual(g), rtol=1e-5)
    rng = np.random.default_rng(1)
    for other in rng.normal(size=(50, *shape)):
        assert np.sum(g * other) / norm(other) < dual(g)


@pytest.mark.parametrize("ends", ["sign", "rows"])
def test_scion_divides_tables_and_readouts_by_the_width_and_turns_routers(ends):
    tables = some({"embed": (7, 4), "unembed": (9, 4), "layers": {"place": (2, 5, 4)}})
    routers = {"layers": {"experts": {"router": some((2, 4, 3))}}}
    grads = tables | {"layers": {**tables["layers"], **routers["layers"]}}
    rule = scion(ends=ends, end_radius=12.0)
    found = jax.jit(lambda g: rule.update(g, rule.init(g), g)[0])(grads)
    router = found["layers"]["experts"].pop("router")
    for leaf in (found["embed"], found["unembed"], found["layers"]["place"]):
        np.testing.assert_allclose(np.mean(leaf**2, axis=-1), 9.0, rtol=1e-5)
    np.testing.assert_allclose(np.mean(router**2, axis=-2), 9.0, rtol=1e-5)


def test_constrained_scion_never_leaves_its_ball():
    rule = scion(radius=2.0, end_radius=9.0, constrained=True, coefficients="exact")
    params = {"mlp": {"in": jnp.zeros((4, 9))}, "embed": jnp.zeros((5, 4))}

    def step(carry, key):
        params, state = carry
        grads = jax.tree.map(lambda w: 1.0 + jax.random.normal(key, w.shape), params)
        updates, state = rule.update(grads, state, params)
        params = jax.tree.map(lambda w, u: w - 0.1 * u, params, updates)
        return (params, state), params

    keys = jax.random.split(jax.random.key(0), 80)
    carry = params, rule.init(params)
    path = jax.jit(lambda: jax.lax.scan(step, carry, keys)[1])()
    sizes = np.linalg.norm(path["mlp"]["in"], 2, axis=(1, 2)) * math.sqrt(4 / 9)
    assert 1.0 < sizes.max() <= 2.0 * (1 + 1e-5)
    sizes = 4 * np.abs(path["embed"]).max((1, 2))
    assert 5.0 < sizes.max() <= 9.0 * (1 + 1e-5)


@pytest.mark.parametrize("name", ["muon", "normuon", "scion"])
def test_an_iteration_without_steps_is_refused(name):
    with pytest.raises(ValueError, match=r"^steps=0 must be at least 1\.$"):
        check(dict(name=name, steps=0), Block(RULES), "optim.rule")
    check(dict(name=name, steps=3), Block(RULES), "optim.rule")
