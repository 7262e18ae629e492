"""optim/constrain.py: where steps end."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from optim import CONSTRAIN
from tests.golden.make_lasso import ALPHA, RATIO

GOLDEN = pathlib.Path(__file__).parent / "golden" / "lasso.npz"
PLAIN = dict(name="gradient_descent")


def params_of(seed=0):
    """Two scanned layers with a kernel of three axes, a plain kernel, what is none."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    layers = {
        "attention": {"query": normal(2, 4, 3, 2)},
        "norm": {"scale": normal(2, 4)},
    }
    return {"embed": normal(5, 4), "layers": layers, "mlp": {"out": normal(6, 4)}}


def walk(words, grad_fn, start, *, rate=0.1, num_steps=1, **options):
    """Where some steps of gradient descent lead."""
    tx, _ = optim.make(
        rule=PLAIN,
        schedule=dict(name="constant", peak=rate, warmup_steps=0),
        num_steps=num_steps,
        constrain=words,
        **options,
    )

    def step(carry, number):
        params, state = carry
        updates, state = tx.update(grad_fn(params), state, params, step=number)
        return (jax.tree.map(jnp.add, params, updates), state), None

    carry = start, tx.init(start)
    return jax.jit(lambda: jax.lax.scan(step, carry, jnp.arange(num_steps))[0][0])()


def still(params):
    return jax.tree.map(jnp.zeros_like, params)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("kind", ["lasso", "net"])
def test_proximal_steps_end_at_the_lasso_of_scikit_learn(golden, kind):
    x, y = jnp.asarray(golden["x"]), jnp.asarray(golden["y"])

    def grad_fn(params):
        w = params["mlp"]["in"]
        return {"mlp": {"in": x.T @ (x @ w - y) / len(x)}}

    words = dict(prox_l1=ALPHA if kind == "lasso" else ALPHA * RATIO)
    l2 = 0.0 if kind == "lasso" else ALPHA * (1 - RATIO)
    start = {"mlp": {"in": jnp.ones((x.shape[1], y.shape[1]))}}
    end = walk(words, grad_fn, start, rate=0.3, num_steps=600, l2=l2)["mlp"]["in"]
    np.testing.assert_allclose(end, golden[kind], rtol=0, atol=1e-5)
    assert 3 < (golden[kind] == 0).sum() < golden[kind].size - 3
    np.testing.assert_array_equal(end == 0, golden[kind] == 0)


def test_the_subgradient_comes_near_and_stays_at_no_zero(golden):
    x, y = jnp.asarray(golden["x"]), jnp.asarray(golden["y"])

    def grad_fn(params):
        w = params["mlp"]["in"]
        return {"mlp": {"in": x.T @ (x @ w - y) / len(x)}}

    start = {"mlp": {"in": jnp.ones((x.shape[1], y.shape[1]))}}
    end = walk({}, grad_fn, start, rate=3e-3, num_steps=10_000, l1=ALPHA)["mlp"]["in"]
    np.testing.assert_allclose(end, golden["lasso"], rtol=0, atol=5e-3)
    assert (end != 0).all()


def test_a_proximal_step_shrinks_by_rate_times_penalty_and_only_kernels():
    start = params_of()
    end = walk(dict(prox_l1=2.0), still, start, rate=0.1)
    w = start["layers"]["attention"]["query"]
    wanted = jnp.sign(w) * jnp.maximum(jnp.abs(w) - 0.2, 0)
    np.testing.assert_allclose(end["layers"]["attention"]["query"], wanted, atol=1e-6)
    np.testing.assert_array_equal(end["embed"], start["embed"])
    scale = start["layers"]["norm"]["scale"]
    np.testing.assert_array_equal(end["layers"]["norm"]["scale"], scale)


def test_the_group_lasso_ends_whole_rows_and_solves_its_own_problem():
    start = params_of()
    end = walk(dict(prox_group=2.0), still, start, rate=0.3)
    rows = np.asarray(start["layers"]["attention"]["query"]).reshape(8, 6)
    found = np.asarray(end["layers"]["attention"]["query"]).reshape(8, 6)
    norms, by = np.linalg.norm(rows, axis=1), 0.3 * 2.0 * np.sqrt(6)
    assert 0 < (norms < by).sum() < 8
    np.testing.assert_array_equal((found == 0).all(1), norms < by)
    # The minimum of |v - w|^2 / 2 + by |v| has v - w + by v / |v| = 0.
    kept = found[norms > by]
    residue = (
        kept - rows[norms > by] + by * kept / np.linalg.norm(kept, axis=1)[:, None]
    )
    np.testing.assert_allclose(residue, 0, atol=1e-5)


def test_max_norm_bounds_what_makes_one_output():
    start = params_of()
    end = walk(dict(max_norm=2.0), still, start)
    for leaf, flat in [("query", (2, 4, 6)), ("out", (1, 6, 4))]:
        tree = [
            t["mlp"] if leaf == "out" else t["layers"]["attention"]
            for t in (start, end)
        ]
        w, v = (np.asarray(t[leaf]).reshape(flat) for t in tree)
        norm = np.linalg.norm(w, axis=1)
        assert 0 < (norm > 2).sum() < norm.size
        np.testing.assert_allclose(
            np.linalg.norm(v, axis=1), np.minimum(norm, 2), rtol=1e-5
        )
        inside = np.broadcast_to(norm[:, None] < 2, w.shape)
        np.testing.assert_array_equal(v[inside], w[inside])


def test_a_fixed_norm_is_that_of_the_start_for_each_layer_s_kernel():
    start, goal = params_of(), params_of(1)

    def grad_fn(params):
        return jax.tree.map(jnp.subtract, params, goal)

    end = walk(dict(fixed_norm=True), grad_fn, start, num_steps=50)
    for one, other in [
        (start["layers"]["attention"]["query"], end["layers"]["attention"]["query"]),
        (start["mlp"]["out"][None], end["mlp"]["out"][None]),
    ]:
        norm = np.linalg.norm(np.asarray(one).reshape(len(one), -1), axis=1)
        found = np.linalg.norm(np.asarray(other).reshape(len(one), -1), axis=1)
        np.testing.assert_allclose(found, norm, rtol=1e-6)
        assert np.abs(one - other).max() > 0.1
    np.testing.assert_allclose(end["embed"], goal["embed"], atol=0.05)


def test_traced_numbers_do_what_written_ones_do():
    start = params_of()
    words = dict(prox_l1=0.3, prox_group=0.2, max_norm=1.5)
    fixed = walk(words, still, start)
    traced = jax.jit(lambda words: walk(words | dict(fixed_norm=False), still, start))(
        {key: jnp.float32(value) for key, value in words.items()}
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        fixed,
        traced,
    )


def test_every_number_of_the_block_has_a_range_that_holds_its_neutral():
    for key, within in CONSTRAIN.ranges.items():
        assert within.holds(within.neutral), key
