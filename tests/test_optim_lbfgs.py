"""L-BFGS: conjugate gradients, the formula of BFGS, and where neither helps."""

import jax
import jax.numpy as jnp
import numpy as np

from optim.rules.lbfgs import lbfgs
from tests.optimizing import orthogonal


def test_lbfgs_with_an_exact_line_search_ends_after_as_many_steps_as_unknowns():
    n = 6
    basis = orthogonal(n, n, 0)
    curve = basis @ np.diag(np.arange(1.0, n + 1)) @ basis.T
    goal = np.linspace(1.0, 2.0, n)
    tx = lbfgs(num_pairs=n)

    @jax.jit
    def run(curve, goal):
        def step(carry, _):
            w, state = carry
            g = curve @ (w - goal)
            u, state = tx.update({"bias": g}, state, {"bias": w})
            u = u["bias"]
            w = w - (g @ u) / jnp.maximum(u @ curve @ u, 1e-30) * u
            return (w, state), w

        w = jnp.zeros(n)
        return jax.lax.scan(step, (w, tx.init({"bias": w})), length=n)[1]

    path = run(jnp.asarray(curve, jnp.float32), jnp.asarray(goal, jnp.float32))
    # On a quadratic that is the method of conjugate gradients, step by step.
    w, r = np.zeros(n), curve @ goal
    p = r
    for k in range(n):
        share = r @ r / (p @ curve @ p)
        w, new = w + share * p, r - share * curve @ p
        p, r = new + new @ new / (r @ r) * p, new
        np.testing.assert_allclose(path[k], w, rtol=0, atol=1e-4)
    assert np.abs(path[n - 2] - goal).max() > 1e-3
    np.testing.assert_allclose(path[-1], goal, rtol=0, atol=1e-4)


def test_lbfgs_is_the_formula_of_bfgs_over_its_last_pairs():
    n, num_pairs, num_steps = 6, 3, 9
    curve = np.linspace(1.0, 4.0, n)
    goal = np.linspace(1.0, 2.0, n)
    tx = lbfgs(num_pairs=num_pairs)

    @jax.jit
    def run(curve, goal):
        def step(carry, _):
            w, state = carry
            u, state = tx.update({"bias": curve * (w - goal)}, state, {"bias": w})
            w = w - 0.3 * u["bias"]
            return (w, state), w

        w = jnp.zeros(n)
        start = w, tx.init({"bias": w})
        return jax.lax.scan(step, start, length=num_steps)[1]

    path = run(jnp.asarray(curve, jnp.float32), jnp.asarray(goal, jnp.float32))
    w, pairs = np.zeros(n), []
    for k in range(num_steps):
        g = curve * (w - goal)
        inverse = np.eye(n) / max(1.0, np.linalg.norm(g))
        if pairs:
            s, y = pairs[-1]
            inverse = np.eye(n) * (s @ y) / (y @ y)
        for s, y in pairs[-num_pairs:]:
            turn = np.eye(n) - np.outer(y, s) / (s @ y)
            inverse = turn.T @ inverse @ turn + np.outer(s, s) / (s @ y)
        s = -0.3 * inverse @ g
        pairs.append((s, curve * s))
        w = w + s
        np.testing.assert_allclose(path[k], w, rtol=0, atol=5e-6)


def test_lbfgs_descends_where_the_curvature_is_negative():
    tx = lbfgs()

    @jax.jit
    def run(path):
        def step(state, w):
            # The gradient falls as the first parameter grows.
            g = {"bias": jnp.array([6.0, 0.1]) - 2 * w * jnp.array([1.0, 0.0])}
            u, state = tx.update(g, state, {"bias": w})
            return state, (u["bias"], g["bias"])

        return jax.lax.scan(step, tx.init({"bias": path[0]}), path)[1]

    for u, g in zip(*run(jnp.array([[1.0, 1.0], [1.1, 1.0], [1.2, 1.0]])), strict=True):
        assert jnp.vdot(u, g) > 0
        np.testing.assert_allclose(u, g / max(1.0, jnp.linalg.norm(g)), rtol=1e-6)
