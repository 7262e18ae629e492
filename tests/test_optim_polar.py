"""Muon, NorMuon and Scion as their authors have them, and the factors they move along.

The runs are those of the authors' formulas, written out in float64.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.registry import Block, check
from optim import RULES
from optim.rules.polar import JORDAN, MARGIN, POLAR_EXPRESS, polar
from tests.optimizing import SCALES, follow, gradient, matrix, orthogonal

BOUNDS = {"jordan": (0.68, 1.14), "polar_express": (0.84, 1.13), "exact": (1.0, 1.0)}


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
def test_singular_values_are_near_one_and_singular_vectors_stay(coefficients):
    given = [matrix(*shape) for shape in ((12, 12), (12, 30), (30, 12))]
    found = jax.jit(lambda given: [polar(g, coefficients, 5) for g in given])(given)
    least, most = BOUNDS[coefficients]
    for g, factor in zip(given, found, strict=True):
        sizes = np.linalg.svd(factor, compute_uv=False)
        assert least - 1e-5 < sizes.min() <= sizes.max() < most + 1e-5
        # U p(S) V^T has a symmetric product with U S V^T, as no other rotation has.
        product = np.asarray(factor.T @ g)
        np.testing.assert_allclose(product, product.T, atol=2e-6)


@pytest.mark.parametrize("shape", [(12, 17), (12, 18), (12, 60), (60, 12)])
@pytest.mark.parametrize("steps", [1, 3, 5, 8])
@pytest.mark.parametrize("coefficients", ["jordan", "polar_express"])
def test_the_iteration_is_its_polynomial_however_it_is_multiplied(
    shape, steps, coefficients
):
    left, right = orthogonal(shape[0], 12, 3), orthogonal(12, shape[1], 4)
    size = np.geomspace(1, 1e-3, 12)
    size /= np.linalg.norm(size)
    table = {"jordan": JORDAN, "polar_express": POLAR_EXPRESS}[coefficients]
    expected = left * composed(table, size, steps) @ right
    given = jnp.asarray(left * size @ right, jnp.float32)
    both = jax.jit(jax.vmap(lambda x: polar(x, coefficients, steps)))(
        jnp.stack([given, -given])
    )
    np.testing.assert_allclose(both, [expected, -expected], atol=4e-5)


@pytest.mark.parametrize("coefficients", BOUNDS)
def test_the_polar_factor_turns_with_its_matrix_and_knows_no_size(coefficients):
    g, left, right = matrix(12, 20), orthogonal(12, 12, 5), orthogonal(20, 20, 6)
    left, right = jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32)
    of = jax.jit(lambda g: polar(g, coefficients, 5))
    plain = of(g)
    np.testing.assert_allclose(of(left @ g @ right), left @ plain @ right, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda g: of(g.T))(g), plain.T, atol=1e-6)
    for size in (1e-28, 1e-15, 1e30):
        np.testing.assert_allclose(of(size * g), plain, atol=1e-5)


@pytest.mark.parametrize("coefficients", BOUNDS)
def test_a_matrix_of_rank_one_or_none_gets_no_other_directions(coefficients):
    one, other = orthogonal(12, 1, 0), orthogonal(1, 20, 1)
    table = {"jordan": JORDAN, "polar_express": POLAR_EXPRESS}
    size = composed(table[coefficients], 1.0) if coefficients in table else 1.0
    of = jax.jit(lambda g: polar(g, coefficients, 5))
    found = of(jnp.asarray(3 * one @ other, jnp.float32))
    np.testing.assert_allclose(found, size * one @ other, atol=4e-5)
    np.testing.assert_array_equal(of(jnp.zeros((12, 20))), jnp.zeros((12, 20)))
    assert polar(jnp.zeros((0, 3)), coefficients, 5).shape == (0, 3)


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
PLACES = {name: ("mlp", name) for name in ("embed", "in", "scale")}


def problem():
    """Start, goal, curve and noise of every parameter; float32 holds them exactly."""
    rng = np.random.default_rng(0)
    shapes = dict(zip(PLACES, [(7, 4), (4, 6), (5,)], strict=True))
    draws = (
        lambda shape: rng.normal(scale=0.5, size=shape),
        lambda shape: rng.normal(scale=0.5, size=shape),
        lambda shape: rng.uniform(0.1, 2.0, size=shape),
        lambda shape: rng.normal(scale=0.5, size=(60, *shape)),
    )
    return [
        {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
        for draw in draws
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_that_of_the_authors_formulas_in_float64(case):
    rule, peak, options = CASES[case]
    schedule = dict(name="linear", peak=peak, warmup_steps=0)
    found = follow(PLACES, problem(), rule=rule, schedule=schedule)
    by_hand = scion_of_the_authors if rule["name"] == "scion" else of_muon
    first, goal, curve, noise = jax.tree.map(np.float64, problem())
    w, states = first, {name: {} for name in PLACES}
    for step in range(60):
        now = {name: x[step] for name, x in noise.items()}
        grads, rate = gradient(np, w, goal, curve, now), peak * (1 - step / 60)
        for name, g in grads.items():
            u = by_hand(states[name], g, w[name], name, **options)
            w = w | {name: w[name] - rate * u}
            np.testing.assert_allclose(found[name][step], w[name], rtol=0, atol=5e-6)
    assert all(np.abs(w[name] - first[name]).max() > 0.1 for name in PLACES)


@pytest.mark.parametrize("name", ["muon", "normuon", "scion"])
def test_an_iteration_without_steps_is_refused(name):
    with pytest.raises(ValueError, match=r"^steps=0 must be at least 1\.$"):
        check(dict(name=name, steps=0), Block(RULES), "optim.rule")
    check(dict(name=name, steps=3), Block(RULES), "optim.rule")
