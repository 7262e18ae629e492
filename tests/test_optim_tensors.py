"""Rules that take tensors whole, and those that find the rate: papers, packages, signs.

The golden file is renewed by tests/golden/make_optim_tensors.py, which says what is in
it. The papers' formulas are written out below in float64, tensor by tensor.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from optim import RULES
from optim.links import keep_dtypes

GOLDEN = pathlib.Path(__file__).parent / "golden" / "optim_tensors.npz"
NUM_STEPS = 64
PATHS = {"key": ("mlp", "in"), "in": ("mlp", "in_bias"), "bias": ("mlp", "out_bias")}
SHARE = 0.1  # of decay inside the rule, on the one kernel


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def given(golden, dtype=np.float32):
    """Start, goal, curve and noise, each {name: array}."""
    kinds = ("start", "goal", "curve", "noise")
    return [{n: golden[f"{kind}/{n}"].astype(dtype) for n in PATHS} for kind in kinds]


def gradient(xp, params, goal, curve, noise):
    return {
        n: curve[n] * (w - goal[n]) + 0.3 * xp.sin(2 * w) + noise[n]
        for n, w in params.items()
    }


def as_tree(named):
    return {"mlp": {PATHS[n][1]: x for n, x in named.items()}}


def as_named(tree):
    return {n: tree["mlp"][leaf] for n, (_, leaf) in PATHS.items()}


def follow(golden, rule, schedule):
    """Parameters after every step, {name: stacked}."""
    tx, _ = optim.make(rule=rule, schedule=schedule, num_steps=NUM_STEPS)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise = now

            def grad_fn(params):
                return as_tree(gradient(jnp, as_named(params), goal, curve, noise))

            updates, state = tx.update(
                grad_fn(params), state, params, step=number, grad_fn=grad_fn
            )
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), params

        steps = jnp.arange(NUM_STEPS), noise
        return jax.lax.scan(step, (start, tx.init(start)), steps)[1]

    start, *others = given(golden)
    return as_named(jax.device_get(run(as_tree(start), *others)))


# The packages.

PACKAGES = {
    "adafactor": (0.05, dict(name="adafactor", min_dim=1)),
    "adafactor_unclipped": (
        0.02,
        dict(name="adafactor", min_dim=1, clip_rms=100.0, decay_power=0.5),
    ),
    "sm3": (0.1, dict(name="sm3", momentum=0.9)),
    "mars": (0.02, dict(name="mars")),
    "mars_strong": (0.02, dict(name="mars", b1=0.9, b2=0.95, gamma=0.2)),
    "prodigy": (1.0, dict(name="prodigy", start=1e-2)),
    "prodigy_safeguarded": (
        1.0,
        dict(
            name="prodigy",
            eps=0.1,
            start=1e-2,
            coefficient=4.0,
            safeguard_warmup=True,
        ),
    ),
    "dadapt_adam": (1.0, dict(name="dadapt_adam", start=1e-3)),
}


@pytest.mark.parametrize("case", PACKAGES)
def test_a_run_is_that_of_the_package(golden, case):
    peak, rule = PACKAGES[case]
    schedule = dict(name="linear", peak=peak, warmup_steps=0)
    params = follow(golden, rule, schedule)
    for n in PATHS:
        path = golden[f"{case}/{n}"]
        assert np.abs(path[-1] - path[0]).max() > 0.1
        np.testing.assert_allclose(params[n][3::4], path[1:], rtol=0, atol=5e-6)


def test_the_packages_cases_tell_one_another_apart(golden):
    ends = [golden[f"{case}/key"][-1] for case in PACKAGES]
    for i, end in enumerate(ends):
        assert all(np.abs(end - other).max() > 1e-3 for other in ends[:i])


# The papers. Each is a function (t, rate, {name: w}, {name: g}) -> {name: w}.


def norm(*arrays):
    return np.sqrt(sum(np.sum(x**2) for x in arrays))


def lamb(b1=0.9, b2=0.99, eps=1e-6):
    m, v = {}, {}

    def step(t, rate, w, g):
        for n in w:
            m[n] = b1 * m.get(n, 0.0) + (1 - b1) * g[n]
            v[n] = b2 * v.get(n, 0.0) + (1 - b2) * g[n] ** 2
            r = m[n] / (1 - b1**t) / (np.sqrt(v[n] / (1 - b2**t)) + eps)
            r = r + (SHARE if n == "key" else 0.0) * w[n]
            w = w | {n: w[n] - rate * norm(w[n]) / norm(r) * r}
        return w

    return step


def lars(momentum=0.9, trust=0.02):
    v = {}

    def step(t, rate, w, g):
        for n in w:
            decay = SHARE if n == "key" else 0.0
            local = trust * norm(w[n]) / (norm(g[n]) + decay * norm(w[n]))
            v[n] = momentum * v.get(n, 0.0) + rate * local * (g[n] + decay * w[n])
            w = w | {n: w[n] - v[n]}
        return w

    return step


def novograd(b1=0.9, b2=0.5, eps=1e-8):
    m, v = {}, {}

    def step(t, rate, w, g):
        for n in w:
            v[n] = b2 * v[n] + (1 - b2) * norm(g[n]) ** 2 if n in v else norm(g[n]) ** 2
            new = g[n] / (np.sqrt(v[n]) + eps) + (SHARE if n == "key" else 0.0) * w[n]
            m[n] = b1 * m[n] + new if n in m else new
            w = w | {n: w[n] - rate * m[n]}
        return w

    return step


def adafactor(power=0.8, clip=1.0, momentum=0.5, scaled=True, factored=True):
    rows, columns, m = {}, {}, {}

    def step(t, rate, w, g):
        b = 1 - t**-power
        for n in w:
            square = np.atleast_2d(g[n]) ** 2 + 1e-30
            if n == "key" and factored:
                rows[n] = b * rows.get(n, 0.0) + (1 - b) * square.sum(1, keepdims=True)
                columns[n] = b * columns.get(n, 0.0) + (1 - b) * square.sum(0)
                v = rows[n] * columns[n] / rows[n].sum()
            else:
                rows[n] = b * rows.get(n, 0.0) + (1 - b) * square
                v = rows[n]
            u = g[n] / np.sqrt(v).reshape(g[n].shape)
            u = u / max(1.0, norm(u) / np.sqrt(u.size) / clip)
            u = u * (max(1e-3, norm(w[n]) / np.sqrt(w[n].size)) if scaled else 1.0)
            m[n] = momentum * m.get(n, 0.0) + (1 - momentum) * u
            w = w | {n: w[n] - rate * m[n]}
        return w

    return step


def sm3():
    """SM3-II: the sets are rows and columns, or each entry of a vector."""
    mu = {}

    def step(t, rate, w, g):
        for n in w:
            sets = np.indices(g[n].shape)
            old = mu.get(n) or [np.zeros(size) for size in g[n].shape]
            nu = np.min([bound[of] for bound, of in zip(old, sets, strict=True)], 0)
            nu = nu + g[n] ** 2
            mu[n] = [np.zeros(size) for size in g[n].shape]
            for bound, of in zip(mu[n], sets, strict=True):
                np.maximum.at(bound, of, nu)
            w = w | {n: w[n] - rate * g[n] / np.sqrt(nu)}
        return w

    return step


def distance(weighted, groups):
    """DoG, or DoWG if `weighted`; a group of tensors has norms in common."""
    start, farthest, squares = {}, {}, {}

    def step(t, rate, w, g):
        if not start:
            start.update(w)
        for group in groups:
            r = norm(*(w[n] - start[n] for n in group))
            first = 0.01 * (1 + norm(*(start[n] for n in group)))
            r = farthest[group] = max(farthest.get(group, first), r)
            square = norm(*(g[n] for n in group)) ** 2
            if weighted:
                squares[group] = squares.get(group, 0.0) + r**2 * square
                eta = r**2 / np.sqrt(squares[group])
            else:
                squares[group] = squares.get(group, 1e-8) + square
                eta = r / np.sqrt(squares[group])
            w = w | {n: w[n] - rate * eta * g[n] for n in group}
        return w

    return step


TOGETHER, APART = [tuple(PATHS)], [(n,) for n in PATHS]
PAPERS = {
    "lamb": (lamb(), 0.02, dict(b2=0.99, decay=SHARE)),
    "lars": (lars(), 0.5, dict(trust=0.02, decay=SHARE)),
    "novograd": (novograd(), 0.005, dict(b1=0.9, b2=0.5, decay=SHARE)),
    "adafactor": (adafactor(), 0.02, dict(momentum=0.5, min_dim=3)),
    "adafactor whole": (
        adafactor(0.6, 0.5, 0.0, scaled=False, factored=False),
        0.02,
        dict(decay_power=0.6, clip_rms=0.5, scaled=False, min_dim=4),
    ),
    "sm3": (sm3(), 0.1, dict(momentum=0.0)),
    "dog": (distance(False, TOGETHER), 1.0, dict(start=0.01)),
    "dog apart": (distance(False, APART), 1.0, dict(start=0.01, per_tensor=True)),
    "dowg": (distance(True, TOGETHER), 1.0, dict(start=0.01)),
}


@pytest.mark.parametrize("case", PAPERS)
def test_a_run_is_that_of_the_paper(golden, case):
    step, rate, numbers = PAPERS[case]
    rule = dict(name=case.split()[0], **numbers)
    schedule = dict(name="constant", peak=rate, warmup_steps=0)
    params = follow(golden, rule, schedule)
    w, goal, curve, noise = given(golden, np.float64)
    first = w
    for t in range(1, NUM_STEPS + 1):
        now = {n: x[t - 1] for n, x in noise.items()}
        w = step(t, rate, w, gradient(np, w, goal, curve, now))
        for n in w:
            np.testing.assert_allclose(params[n][t - 1], w[n], rtol=0, atol=5e-6)
    assert all(np.abs(w[n] - first[n]).max() > 0.1 for n in w)


def test_exact_mars_takes_both_gradients_on_the_same_batch(golden):
    b1, b2, gamma, rate = 0.9, 0.99, 0.5, 0.02
    rule = dict(name="mars", b1=b1, b2=b2, gamma=gamma, exact=True)
    schedule = dict(name="constant", peak=rate, warmup_steps=0)
    params = follow(golden, rule, schedule)
    w, goal, curve, noise = given(golden, np.float64)
    before, m, v = w, dict.fromkeys(w, 0.0), dict.fromkeys(w, 0.0)
    for t in range(1, NUM_STEPS + 1):
        now = {n: x[t - 1] for n, x in noise.items()}
        g = gradient(np, w, goal, curve, now)
        same_batch = gradient(np, before, goal, curve, now)
        before = w
        for n in w:
            c = g[n] + gamma * b1 / (1 - b1) * (g[n] - same_batch[n])
            c = c / max(1.0, norm(c))
            m[n] = b1 * m[n] + (1 - b1) * c
            v[n] = b2 * v[n] + (1 - b2) * c**2
            u = m[n] / (1 - b1**t) / (np.sqrt(v[n] / (1 - b2**t)) + 1e-8)
            w = w | {n: w[n] - rate * u}
            np.testing.assert_allclose(params[n][t - 1], w[n], rtol=0, atol=5e-6)


# What holds whatever the numbers.

OURS = {
    "lamb": dict(eps=1e-30, decay=0.0),
    "lars": dict(decay=0.0),
    "novograd": dict(eps=1e-30, decay=0.0),
    "adafactor": dict(min_dim=1),
    "sm3": dict(),
    "mars": dict(),
    "prodigy": dict(start=0.01, eps=1e-30),
    "dadapt_adam": dict(start=0.01, eps=1e-30),
    "dog": dict(start=0.01, eps=1e-30),
    "dowg": dict(start=0.01),
}
WHOLE = ("lamb", "lars", "novograd", "adafactor", "sm3", "mars", "dog")


@functools.cache
def walker(name, per_tensor=False):
    """(numbers, params, grads, rates) -> updates and states of every step, stacked."""
    words = {k: v for k, v in OURS[name].items() if k not in RULES[name].ranges}
    if per_tensor:
        words["per_tensor"] = True

    @jax.jit
    def walk(numbers, params, grads, rates):
        rule = RULES[name].build(**numbers, **words)
        tx = keep_dtypes(optax.with_extra_args_support(rule))

        def step(carry, now):
            params, state = carry
            grads, rate = now
            updates, state = tx.update(grads, state, params, rate=rate)
            params = jax.tree.map(
                lambda w, u: (w - rate * u).astype(w.dtype), params, updates
            )
            return (params, state), (updates, state)

        return jax.lax.scan(step, (params, tx.init(params)), (grads, rates))[1]

    return walk


def numbers_of(name, **changed):
    given = {k: v for k, v in OURS[name].items() if k in RULES[name].ranges}
    return {k: jnp.float32(v) for k, v in (given | changed).items()}


def some(*lead, seed=0):
    """A tree of two scanned layers and an embedding; `lead` are axes before all."""
    shapes = {
        "embed": (5, 4),
        "layers": {
            "attention": {"query": (2, 4, 2, 3)},
            "mlp": {"in_bias": (2, 8)},
        },
    }
    shapes, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(*lead, *s)).astype(np.float32) for s in shapes]
    return jax.tree.unflatten(treedef, arrays)


RATES = np.full(6, 0.1, np.float32)


@pytest.mark.parametrize("name", WHOLE)
def test_each_scanned_layer_gets_what_it_gets_alone(name):
    walk, numbers = walker(name, per_tensor=name == "dog"), numbers_of(name)
    params, grads = some(), some(6, seed=1)
    stacked, _ = walk(numbers, params, grads, RATES)
    for i in range(2):
        alone, _ = walk(
            numbers,
            jax.tree.map(lambda x, i=i: x[i], params["layers"]),
            jax.tree.map(lambda x, i=i: x[:, i], grads["layers"]),
            RATES,
        )
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[:, i], y, rtol=2e-6),
            stacked["layers"],
            alone,
        )


@pytest.mark.parametrize("name", [n for n in OURS if n != "mars"])
def test_the_scale_of_the_objective_does_not_matter(name):
    params, grads = some(), some(6, seed=1)
    walk, numbers = walker(name), numbers_of(name)
    updates, _ = walk(numbers, params, grads, RATES)
    larger, _ = walk(numbers, params, jax.tree.map(lambda g: 64 * g, grads), RATES)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7),
        updates,
        larger,
    )


@pytest.mark.parametrize("zero", ["gradients", "rate"])
@pytest.mark.parametrize("name", OURS)
def test_a_first_step_of_zero_does_no_harm(name, zero):
    params, grads, rates = some(), some(6, seed=1), RATES.copy()
    if zero == "rate":
        rates[:2] = 0.0
    else:
        grads = jax.tree.map(np.copy, grads)
        jax.tree.map(lambda g: g[:2].fill(0.0), grads)
    updates, states = walker(name)(numbers_of(name), params, grads, rates)
    for leaf in jax.tree.leaves((updates, states)):
        assert np.isfinite(leaf).all()
    for leaf in jax.tree.leaves(updates):
        if zero == "gradients":
            np.testing.assert_array_equal(leaf[:2], 0.0)
        assert np.abs(leaf[-1]).min() > 0


@pytest.mark.parametrize("name", ["lamb", "lars", "novograd"])
def test_the_decay_of_a_rule_is_of_kernels_only(name):
    params, grads = some(), some(6, seed=1)
    one, _ = walker(name)(numbers_of(name), params, grads, RATES)
    other, _ = walker(name)(numbers_of(name, decay=0.5), params, grads, RATES)
    changed = jax.tree.map(lambda x, y: np.abs(x - y).max() > 1e-3, one, other)
    assert changed == {
        "embed": False,
        "layers": {
            "attention": {"query": True},
            "mlp": {"in_bias": False},
        },
    }


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_step_of_lamb_is_the_rate_as_a_share_of_each_layer(decay):
    params, grads = some(), some(6, seed=1)
    updates, _ = walker("lamb")(
        numbers_of("lamb", decay=decay), params, grads, 0 * RATES
    )
    for tree, num_layers in (("embed", 1), ("layers", 2)):
        for u, w in zip(
            *map(jax.tree.leaves, (updates[tree], params[tree])), strict=True
        ):
            moved = np.linalg.norm(u.reshape(6, num_layers, -1), axis=-1)
            size = np.linalg.norm(w.reshape(num_layers, -1), axis=-1)
            np.testing.assert_allclose(moved, np.stack([size] * 6), rtol=1e-5)


def test_adafactor_divides_a_gradient_with_squares_of_rank_one_by_its_size():
    rng = np.random.default_rng(0)
    size = rng.uniform(0.1, 3.0, (4, 1)) * rng.uniform(0.1, 3.0, (1, 8))
    sign = rng.choice([-1.0, 1.0], (4, 8))
    grads = {"mlp": {"in": jnp.asarray(size * sign, jnp.float32)}}
    tx = RULES["adafactor"].build(min_dim=1, scaled=False)
    updates, state = jax.jit(lambda g: tx.update(g, tx.init(g), g))(grads)
    np.testing.assert_allclose(updates["mlp"]["in"], sign, rtol=1e-5)
    assert sum(x.size for x in jax.tree.leaves(state)) < 4 + 8 + 4


def test_sm3_bounds_the_sum_of_squares_and_is_it_for_a_vector():
    params, grads = some(), some(6, seed=1)
    updates, states = walker("sm3")(
        numbers_of("sm3", momentum=0.0), params, grads, RATES
    )
    sums = jax.tree.map(lambda g: np.cumsum(g**2, axis=0), grads)
    assert jax.tree.all(
        jax.tree.map(
            lambda u, g, s: np.all(np.abs(u) <= np.abs(g) / np.sqrt(s) * 1.00001),
            updates,
            grads,
            sums,
        )
    )
    vector = [tree["layers"]["mlp"]["in_bias"] for tree in (updates, grads, sums)]
    np.testing.assert_allclose(vector[0], vector[1] / np.sqrt(vector[2]), rtol=1e-5)
    (rows, columns), matrix = states[0]["embed"].bounds, sums["embed"]
    assert np.all(np.minimum(rows[:, :, None], columns[:, None]) >= 0.99999 * matrix)


def test_sm3_without_momentum_keeps_rows_and_columns_only():
    tx = RULES["sm3"].build(momentum=0.0)
    sizes = [x.size for x in jax.tree.leaves(tx.init({"embed": np.zeros((50, 40))}))]
    assert sorted(sizes) == [40, 50]


@pytest.mark.parametrize("name", ["sm3", "dog"])
def test_sums_of_squares_go_on_growing_in_bfloat16(name):
    params = {"embed": jnp.ones((2, 3), jnp.bfloat16)}
    grads = {"embed": jnp.ones((1024, 2, 3), jnp.bfloat16)}
    _, states = walker(name)(numbers_of(name), params, grads, np.zeros(1024))
    found = states.squares if name == "dog" else states[0]["embed"].bounds[0][:, 0]
    step = 6 if name == "dog" else 1
    np.testing.assert_allclose(found, step * np.arange(1, 1025), rtol=1e-5)


def test_distances_are_those_to_where_training_began():
    params, grads = some(), some(6, seed=1)
    updates, states = walker("dog")(numbers_of("dog"), params, grads, 10 * RATES)
    moves = [np.cumsum(u, axis=0).reshape(6, -1) for u in jax.tree.leaves(updates)]
    gone = np.linalg.norm(np.concatenate(moves, axis=1), axis=1)
    np.testing.assert_allclose(
        states.farthest[1:], np.maximum.accumulate(gone)[:-1], rtol=1e-4
    )
