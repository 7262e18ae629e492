"""Scion: where its balls reach farthest, and that it stays inside them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optim.rules.scion import of_matrix, of_rows, of_vector, scion
from tests.optimizing import normal

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
    g = normal(shape)
    found = np.asarray(jax.jit(lmo)(g), np.float64)
    g = np.asarray(g, np.float64)
    np.testing.assert_allclose(norm(found), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.sum(g * found), dual(g), rtol=1e-5)
    rng = np.random.default_rng(1)
    for other in rng.normal(size=(50, *shape)):
        assert np.sum(g * other) / norm(other) < dual(g)


@pytest.mark.parametrize("ends", ["sign", "rows"])
def test_scion_divides_tables_and_readouts_by_the_width_and_turns_routers(ends):
    tables = normal(
        {"embed": (7, 4), "unembed": (9, 4), "layers": {"place": (2, 5, 4)}}
    )
    routers = {"layers": {"experts": {"router": normal((2, 4, 3))}}}
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
