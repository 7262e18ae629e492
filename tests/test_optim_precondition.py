"""SOAP, Shampoo, Sophia, L-BFGS: the papers in float64, their identities, PyTorch.

The golden file is renewed by tests/golden/make_optim_precondition.py.
"""

import dataclasses
import pathlib

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.mean import Mean
from models.decoder import Decoder
from models.dropout import Dropout
from models.encoder_decoder import EncoderDecoder
from models.readout import Readout
from optim.rules.adam import adam
from optim.rules.lbfgs import lbfgs
from optim.rules.shampoo import check, shampoo
from optim.rules.soap import soap
from optim.rules.sophia import sophia_g, sophia_h
from tasks import language, translation
from tasks.language import Language
from tasks.loss import drawn_targets, token_scores
from tasks.penalties import Penalties
from tasks.translation import Translation
from train.guard import Guard
from train.step import make_step, start

GOLDEN = pathlib.Path(__file__).parent / "golden" / "optim_precondition.npz"
NUM_STEPS = 64
NAMES = {"embed": "key", "scale": "in", "bias": "bias"}  # ours: that of the file
RATE = dict(name="linear", peak=0.02, warmup_steps=0)
SOAPS = {
    "soap": dict(b1=0.95, b2=0.95, b3=0.95),
    "soap_every_step": dict(b1=0.9, b2=0.99, b3=0.8, every_steps=1),
    "soap_one_side": dict(b1=0.9, b2=0.95, b3=0.95, every_steps=3, max_side=3),
}
# The least eigenvalues of a first gradient are noise: root_eps stands above it.
SHAMPOOS = {
    "grafted": dict(every_steps=3, root_eps=1e-3),
    "other_numbers": dict(b1=0.8, b2=0.9, eps=1e-2, root_eps=1e-2, every_steps=1),
    "sum": dict(
        b1=0.0, b2=1.0, root_eps=1e-3, every_steps=2, statistics="sum", graft="none"
    ),
    "mean": dict(b1=0.5, b2=0.9, graft="none", root_eps=1e-3, every_steps=1),
    "blocks": dict(root_eps=1e-3, every_steps=2, block=2),
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def tree(golden, kind):
    return {ours: golden[f"{kind}/{theirs}"] for ours, theirs in NAMES.items()}


def gradient(xp, params, goal, curve, noise):
    return {
        n: curve[n] * (w - goal[n]) + 0.3 * xp.sin(2 * w) + noise[n]
        for n, w in params.items()
    }


def follow(golden, rule):
    """The parameters after every step."""
    start, goal, curve, noise = (
        tree(golden, kind) for kind in ("start", "goal", "curve", "noise")
    )
    tx, _ = optim.make(rule=rule, schedule=RATE, num_steps=NUM_STEPS)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise = now

            def grad_fn(params):
                return gradient(jnp, params, goal, curve, noise)

            updates, state = tx.update(
                grad_fn(params),
                state,
                params,
                step=number,
                key=jax.random.fold_in(jax.random.key(0), number),
                grad_fn=grad_fn,
            )
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), params

        steps = jnp.arange(NUM_STEPS), noise
        return jax.lax.scan(step, (start, tx.init(start)), steps)[1]

    return jax.device_get(run(start, goal, curve, noise))


def follow_in_float64(golden, name, direction):
    """The path of one tensor; `direction(t, gradient)` is the paper's, t from 0."""
    start, goal, curve, noise = (
        {name: tree(golden, kind)[name].astype(np.float64)}
        for kind in ("start", "goal", "curve", "noise")
    )
    w, path = start, []
    for t in range(NUM_STEPS):
        g = gradient(np, w, goal, curve, {name: noise[name][t]})[name]
        w = {name: w[name] - 0.02 * (1 - t / NUM_STEPS) * direction(t, w[name], g)}
        path.append(w[name])
    return np.stack(path)


def adam_in_float64(b1, b2, eps, rotate=lambda x: x, back=lambda x: x):
    """Kingma & Ba, of a gradient at time t from 1."""
    m, v = 0.0, 0.0

    def direction(t, g):
        nonlocal m, v
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)

    return direction


def soap_in_float64(b1, b2, b3, every_steps=10, max_side=10_000):
    """Algorithm 3 of Vyas et al., with a momentum that is never rotated."""
    m = v = 0.0
    factors, bases = [0.0, 0.0], [None, None]

    def turn(x, left, right):
        return left @ x @ right

    def direction(t, _, g):
        nonlocal m, v
        u = np.zeros_like(g)
        if t > 0:
            left, right = bases
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * turn(g, left.T, right) ** 2
            m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
            u = turn(m_hat, left.T, right) / (np.sqrt(v_hat) + 1e-8)
            u = turn(u, left, right.T)
        for axis, square in enumerate((g @ g.T, g.T @ g)):
            if len(square) > max_side:
                bases[axis] = np.eye(len(square))
                continue
            factors[axis] = b3 * factors[axis] + (1 - b3) * square
            if t == 0:
                bases[axis] = np.linalg.eigh(factors[axis])[1][:, ::-1]
            elif t % every_steps == 0:
                basis = bases[axis]
                order = np.argsort(-np.diag(basis.T @ factors[axis] @ basis))
                v = np.take(v, order, axis=axis)
                bases[axis] = np.linalg.qr(factors[axis] @ basis[:, order])[0]
        return u

    return direction


def shampoo_in_float64(
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    root_eps=1e-6,
    every_steps=10,
    block=1024,
    statistics="mean",
    graft="adam",
):
    """Gupta et al. and Anil et al., block by block."""
    m = v = 0.0
    factors, roots = {}, {}

    def root(factor):
        value, vector = np.linalg.eigh(factor)
        value = np.maximum(value, 0) + root_eps * value[-1]
        return vector @ np.diag(value**-0.25) @ vector.T

    def direction(t, _, g):
        nonlocal m, v
        mean = statistics == "mean"
        share, whole = (1 - b2, 1 - b2 ** (t + 1)) if mean else (1.0, 1.0)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + share * g**2
        m_hat = m / (1 - b1 ** (t + 1))
        u = np.zeros_like(g)
        for i in range(0, g.shape[0], block):
            for j in range(0, g.shape[1], block):
                at = slice(i, i + block), slice(j, j + block)
                for side, square in enumerate((g[at] @ g[at].T, g[at].T @ g[at])):
                    own = i, j, side
                    factors[own] = b2 * factors.get(own, 0.0) + share * square
                    if t % every_steps == 0:
                        roots[own] = root(factors[own] / whole)
                u[at] = roots[i, j, 0] @ m_hat[at] @ roots[i, j, 1]
        if graft == "adam":
            u *= np.linalg.norm(m_hat / (np.sqrt(v / whole) + eps)) / np.linalg.norm(u)
        return u

    return direction


def sophia_in_float64(curve, b1=0.96, b2=0.99, gamma=0.01, eps=1e-12, every_steps=10):
    """Algorithm 3 of Liu et al., with the Hessian itself: it is diagonal here."""
    m = h = 0.0

    def direction(t, w, g):
        nonlocal m, h
        m = b1 * m + (1 - b1) * g
        if t % every_steps == 0:
            h = b2 * h + (1 - b2) * (curve + 0.6 * np.cos(2 * w))
        return np.clip(m / np.maximum(gamma * h, eps), -1, 1)

    return direction


@pytest.mark.parametrize("case", SOAPS)
def test_soap_is_that_of_pytorch_optimizer_and_of_the_paper(golden, case):
    params = follow(golden, dict(name="soap", **SOAPS[case]))
    for name, path in tree(golden, case).items():
        assert np.abs(path[-1] - path[0]).max() > 0.1
        np.testing.assert_allclose(params[name][3::4], path[1:], rtol=0, atol=5e-6)
    paper = follow_in_float64(golden, "embed", soap_in_float64(**SOAPS[case]))
    np.testing.assert_allclose(params["embed"], paper, rtol=0, atol=5e-6)


@pytest.mark.parametrize("case", SHAMPOOS)
def test_shampoo_is_that_of_the_paper(golden, case):
    params = follow(golden, dict(name="shampoo", **SHAMPOOS[case]))
    direction = shampoo_in_float64(**SHAMPOOS[case])
    paper = follow_in_float64(golden, "embed", direction)
    assert np.abs(paper[-1] - paper[0]).max() > 0.1
    np.testing.assert_allclose(params["embed"], paper, rtol=0, atol=5e-6)


def test_shampoo_of_sums_is_that_of_pytorch_optimizer(golden):
    numbers = dict(b1=0.0, b2=1.0, root_eps=1e-9, every_steps=1)
    rule = dict(name="shampoo", statistics="sum", graft="none", **numbers)
    path = golden["shampoo/key"]
    params = follow(golden, rule)["embed"]
    np.testing.assert_allclose(params[3::4], path[1:], rtol=0, atol=5e-6)


@pytest.mark.parametrize("numbers", [{}, dict(b1=0.9, b2=0.8, gamma=2.0, eps=1e-2)])
def test_sophia_h_is_that_of_the_paper(golden, numbers):
    params = follow(golden, dict(name="sophia_h", every_steps=4, **numbers))
    for name in NAMES:
        curve = tree(golden, "curve")[name].astype(np.float64)
        direction = sophia_in_float64(curve, every_steps=4, **numbers)
        paper = follow_in_float64(golden, name, direction)
        np.testing.assert_allclose(params[name], paper, rtol=0, atol=5e-6)


def matrices(num, *shape, seed=0):
    return jax.random.normal(jax.random.key(seed), (num, *shape))


def play(tx, grads, **extra):
    """The updates of a rule for the gradients of a tree, one after another."""

    @jax.jit
    def run(grads):
        params = jax.tree.map(lambda g: jnp.zeros_like(g[0]), grads)

        def step(carry, grads):
            state, number = carry
            key = jax.random.fold_in(jax.random.key(1), number)
            updates, state = tx.update(
                grads, state, params, step=number, key=key, **extra
            )
            return (state, number + 1), updates

        return jax.lax.scan(step, (tx.init(params), 0), grads)[1]

    return run(grads)


def test_soap_without_rotated_sides_is_adam_from_the_second_step_on():
    grads = {"embed": matrices(12, 3, 5), "bias": matrices(12, 4)}
    new = play(soap(b1=0.9, b2=0.99, max_side=2, every_steps=2), grads)
    late = jax.tree.map(lambda g: g[1:], grads)
    wanted = play(optax.with_extra_args_support(adam(b1=0.9, b2=0.99)), late)
    for name, u in new.items():
        assert not u[0].any()
        np.testing.assert_allclose(u[1:], wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["soap", "shampoo"])
def test_a_rotated_gradient_has_a_rotated_update(rule):
    tx = dict(soap=soap(every_steps=3), shampoo=shampoo(graft="none", every_steps=3))
    # Square, for the basis of what no gradient has turned to is any.
    grads = matrices(12, 5, 5)
    left, right = jnp.linalg.qr(matrices(2, 5, 5, seed=1))[0]
    new = play(tx[rule], {"embed": grads})["embed"]
    turned = play(tx[rule], {"embed": left @ grads @ right})["embed"]
    np.testing.assert_allclose(turned, left @ new @ right, rtol=0, atol=2e-4)


def test_shampoo_of_diagonal_gradients_is_adagrad():
    numbers = dict(b1=0.0, b2=1.0, root_eps=1e-12, every_steps=1)
    tx = shampoo(statistics="sum", graft="none", **numbers)
    diagonals = matrices(8, 4)
    grads = jax.vmap(jnp.diag)(diagonals)
    new = play(tx, {"embed": grads})["embed"]
    wanted = diagonals / jnp.sqrt(jnp.cumsum(diagonals**2, axis=0))
    np.testing.assert_allclose(new, jax.vmap(jnp.diag)(wanted), atol=1e-5)
    # With one entry at a time, also the one of full matrices, over all 16 entries.
    single = grads * jnp.tile(jnp.eye(4), (2, 1))[..., None]
    new = play(tx, {"embed": single})["embed"]
    flat = np.asarray(single, np.float64).reshape(8, 16)
    for t in range(4, 8):
        square = flat[: t + 1].T @ flat[: t + 1]
        value, vector = np.linalg.eigh(square)
        power = np.where(value > 1e-12, np.maximum(value, 1e-12) ** -0.5, 0.0)
        full = vector @ np.diag(power) @ vector.T @ flat[t]
        np.testing.assert_allclose(new[t].reshape(-1), full, atol=1e-5)


def test_shampoo_without_memory_gives_the_polar_factor():
    numbers = dict(b1=0.0, b2=0.0, root_eps=1e-9, every_steps=1)
    grads = matrices(3, 4, 4)
    new = play(shampoo(graft="none", **numbers), {"embed": grads})["embed"]
    left, _, right = np.linalg.svd(np.asarray(grads, np.float64))
    np.testing.assert_allclose(new, left @ right, rtol=0, atol=2e-4)


def test_grafted_shampoo_is_as_long_as_adam_and_on_vectors_is_adam():
    size = jnp.array([1e-3, 1.0, 1e3])  # of each layer's gradients
    grads = {
        "mlp": {"in": size[None, :, None, None] * matrices(9, 1, 5, 7)},
        "norm": {"scale": size[None, :, None] * matrices(9, 1, 4)},
    }
    tx = shampoo(block=3, every_steps=2, root_eps=1e-3)
    new = play(tx, {"layers": grads})["layers"]
    wanted = play(optax.with_extra_args_support(adam()), {"layers": grads})["layers"]
    np.testing.assert_allclose(new["norm"]["scale"], wanted["norm"]["scale"], rtol=1e-5)
    one, other = (jnp.linalg.norm(u["mlp"]["in"], axis=(2, 3)) for u in (new, wanted))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    small, middle, large = jnp.moveaxis(new["mlp"]["in"], 1, 0)
    np.testing.assert_allclose(small, middle, atol=2e-3)  # eps is 1e-5 of the small
    np.testing.assert_allclose(large, middle, atol=2e-3)


STACKED = {"soap": soap(every_steps=2), "shampoo": shampoo(every_steps=2, block=4)}


@pytest.mark.parametrize("rule", STACKED)
def test_stacked_layers_are_each_on_their_own(rule):
    grads = {"mlp": {"in": matrices(6, 2, 3, 5)}, "norm": {"scale": matrices(6, 2, 4)}}
    stacked = play(STACKED[rule], {"layers": grads})["layers"]
    for i in range(2):
        layer = jax.tree.map(lambda g, i=i: g[:, i], grads)
        own = play(STACKED[rule], layer)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[:, i], b, atol=1e-5),
            stacked,
            own,
        )


def primitives(jaxpr, outside=True):
    """The primitives of a program; without what stands under a condition."""
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        if eqn.primitive.name == "cond" and outside:
            continue
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from primitives(inner, outside)


@pytest.mark.parametrize("rule", STACKED)
def test_stacked_layers_too_pay_for_matrices_only_where_they_are_renewed(rule):
    tx = STACKED[rule]
    params = {"layers": {"mlp": {"in": jnp.zeros((2, 3, 5))}}}

    def step(grads, state):
        return tx.update(grads, state, grads, step=0)

    program = jax.make_jaxpr(step)(params, tx.init(params)).jaxpr
    everywhere = set(primitives(program, outside=False))
    assert {"eigh"} <= everywhere
    assert not {"eigh", "householder_product", "qr", "geqrf"} & set(primitives(program))


def quartic(w):
    """Not separable: its Hessian has many entries off the diagonal."""
    turn = jnp.arange(36.0).reshape(6, 6) % 7 - 3.0
    return jnp.sum((turn @ w) ** 2) / 20 + jnp.sum(w**4) + jnp.prod(w[:3])


def test_the_estimate_of_sophia_h_has_the_diagonal_of_the_hessian_for_its_mean():
    tx = sophia_h(b2=0.0)
    params = {"bias": jnp.linspace(-1.0, 1.5, 6)}
    grad_fn = jax.grad(lambda params: quartic(params["bias"]))

    def estimate(key):
        start = tx.init(params)
        grads = grad_fn(params)
        state = tx.update(grads, start, params, key=key, grad_fn=grad_fn)[1]
        return state.diagonal["bias"]

    @jax.jit
    def run():
        exact = jnp.diag(jax.hessian(quartic)(params["bias"]))
        return jax.vmap(estimate)(jax.random.split(jax.random.key(0), 4096)), exact

    assert_mean(*run())


def assert_mean(drawn, exact):
    """Of draws along the first axis, to four standard errors."""
    drawn, exact = np.asarray(drawn, np.float64), np.asarray(exact, np.float64)
    error = drawn.std(0) / np.sqrt(len(drawn))
    assert (error > 1e-4).all()
    assert np.abs((drawn.mean(0) - exact) / error).max() < 4


def test_the_estimate_of_sophia_g_has_the_diagonal_of_gauss_newton_for_its_mean():
    B, L, D, V = 2, 3, 4, 5
    x_BLD = jax.random.normal(jax.random.key(1), (B, L, D))
    weight_BL = jnp.ones((B, L)).at[0, 2].set(0.0)
    params = {"embed": jax.random.normal(jax.random.key(2), (V, D))}
    tx = sophia_g(b2=0.0)

    def sampled_grad_fn(params, key):
        target_BL = drawn_targets(x_BLD, Readout(params["embed"]), key, chunk=2)

        def loss(params):
            given = x_BLD, Readout(params["embed"]), target_BL, weight_BL
            scores = token_scores(*given, penalties=Penalties(), chunk=2)
            return scores["objective"].value

        return jax.grad(loss)(params), weight_BL.sum()

    def estimate(key):
        extra = dict(key=key, sampled_grad_fn=sampled_grad_fn)
        return tx.update(params, tx.init(params), params, **extra)[1].diagonal["embed"]

    def mean_loss(logit_BLV):
        target_BL = jnp.zeros((B, L), jnp.int32)  # the curvature is that of any target
        nats_BL = optax.softmax_cross_entropy_with_integer_labels(logit_BLV, target_BL)
        return (nats_BL * weight_BL).sum() / weight_BL.sum()

    @jax.jit
    def run():
        def logits(embed):
            return Readout(embed.reshape(V, D))(x_BLD).reshape(-1)

        embed = params["embed"].reshape(-1)
        inner = jax.hessian(lambda z: mean_loss(z.reshape(B, L, V)))(logits(embed))
        jacobian = jax.jacobian(logits)(embed)
        exact = jnp.diag(jacobian.T @ inner @ jacobian).reshape(V, D)
        return jax.vmap(estimate)(jax.random.split(jax.random.key(0), 4096)), exact

    assert_mean(*run())


def test_lbfgs_with_an_exact_line_search_ends_after_as_many_steps_as_unknowns():
    n = 6
    basis = np.linalg.qr(np.asarray(matrices(n, n), np.float64))[0]
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


RULES = {
    "soap": soap(every_steps=1),
    "shampoo": shampoo(every_steps=1),
    "shampoo_sum": shampoo(every_steps=1, statistics="sum", graft="none", block=2),
    "sophia_h": sophia_h(every_steps=1),
    "sophia_g": sophia_g(every_steps=1),
    "lbfgs": lbfgs(),
}


@pytest.mark.parametrize("rule", RULES)
def test_zero_gradients_at_first_give_finite_updates_and_leave_no_trace(rule):
    grads = {"embed": matrices(4, 3, 5).at[:3].set(0.0), "bias": matrices(4, 4)}

    def zeros(params, *_):
        return jax.tree.map(jnp.zeros_like, params)

    extra = dict(grad_fn=zeros, sampled_grad_fn=lambda *w: (zeros(*w), 1.0))
    new = play(RULES[rule], grads, **extra)["embed"]
    assert not new[:3].any()
    assert jnp.isfinite(new).all()


@pytest.mark.parametrize(
    ("rule", "numbers", "message"),
    [
        ("shampoo", dict(b2=1.0), r"b2=1.0 must be less than 1 where .*'mean'"),
        ("shampoo", dict(block=0), "block=0 must be at least 1"),
        ("shampoo", dict(every_steps=0), "every_steps=0 must be at least 1"),
        ("soap", dict(every_steps=0), "every_steps=0 must be at least 1"),
        ("sophia_h", dict(every_steps=-1), "every_steps=-1 must be at least 1"),
        ("lbfgs", dict(num_pairs=0), "num_pairs=0 must be at least 1"),
    ],
)
def test_a_count_that_makes_no_sense_is_refused(rule, numbers, message):
    entry = optim.RULES[rule]
    entry.check()
    with pytest.raises(ValueError, match=message):
        entry.check(**numbers)


def test_a_sum_of_everything_is_not_refused():
    check(b2=1.0, statistics="sum")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Its objective is w, the gradient of its drawn loss the mean of x at any key."""

    def init(self, key):
        del key
        return {"bias": jnp.zeros(())}

    def score(self, params, batch, key, *, train):
        del key, train
        loss = Mean.of(params["bias"] + 0 * batch["x_B"], batch["weight_B"])
        return {"objective": loss, "loss": loss}

    def drawn_loss(self, params, batch, key):
        del key
        return Mean.of(params["bias"] * batch["x_B"], batch["weight_B"])


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_the_diagonal_of_sophia_g_does_not_depend_on_the_pieces(pieces):
    task, tx = Drawing(), sophia_g(b2=0.5)
    weight_B = jnp.array([1, 1, 1, 0, 1, 0, 0, 0.0])  # uneven over any split
    batch = {"x_B": jnp.arange(8.0), "weight_B": weight_B}
    step = make_step(task, tx, rate=lambda step: 0.1, judge=Guard(), pieces=pieces)
    state = start(task, tx, jax.random.key(0))
    state, _ = jax.jit(step)(state, batch, jax.random.key(0))
    mean = (0 + 1 + 2 + 4) / 4
    diagonal = state.opt_state.diagonal["bias"]
    np.testing.assert_allclose(diagonal, 0.5 * 4 * mean**2, rtol=1e-6)


SIZES = dict(vocab=7, width=8, num_heads=2, mlp_width=16)
TASKS = {
    "translation": Translation(
        EncoderDecoder(**SIZES, num_encoder_layers=1, num_decoder_layers=1),
        smoothing=0.3,
        z_loss=0.1,
        chunk=2,
    ),
    "language": Language(Decoder(**SIZES, num_layers=1), smoothing=0.3),
}
INPUTS = dict(translation=translation.INPUTS, language=language.INPUTS)
SEGMENT = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]], np.int32)
TOKEN = np.array([[2, 3, 4, 5, 6, 0], [6, 2, 4, 3, 0, 0]], np.int32)
BATCH = dict(
    source_BM=TOKEN,
    source_segment_BM=SEGMENT,
    target_BL=TOKEN,
    target_segment_BL=SEGMENT,
    input_BL=TOKEN,
    segment_BL=SEGMENT,
)


@pytest.mark.parametrize("name", TASKS)
def test_drawn_targets_are_the_models_own_and_what_it_reads_stays(name):
    task = TASKS[name]
    keys = jax.random.split(jax.random.key(1), 2048)

    @jax.jit
    def run(batch):
        params = task.init(jax.random.key(0))

        def loss(key):
            return task.drawn_loss(params, batch, key)

        # The mean of -log p over draws from p is the entropy of p, at these inputs.
        inputs = [batch[key] for key in INPUTS[name]]
        logit_BLV = task.model.apply({"params": params}, *inputs, train=False)
        p_BLV = jax.nn.softmax(logit_BLV)
        entropy_BL = -(p_BLV * jax.nn.log_softmax(logit_BLV)).sum(-1)
        return jax.vmap(loss)(keys), (entropy_BL * (SEGMENT > 0)).sum()

    loss, entropy = run(BATCH)
    assert (loss.weight == 9).all()
    assert_mean(loss.total, entropy)


@pytest.mark.parametrize("kind", ["__call__", "relu"])
def test_dropout_has_the_second_derivative_that_sophia_h_asks_for(kind):
    x = jax.random.normal(jax.random.key(0), (64,))
    rngs = {"dropout": jax.random.key(1)}

    def dropped(x):
        return Dropout(0.25).apply({}, x, train=True, rngs=rngs, method=kind)

    @jax.jit
    def run(x):
        grad = jax.grad(lambda x: (dropped(x) ** 2).sum())
        return jax.jvp(grad, (x,), (jnp.ones_like(x),))[1], dropped(x) / x

    curve, slope = run(x)
    assert 0 < (slope == 0).sum() < 64
    np.testing.assert_allclose(curve, 2 * slope**2, rtol=1e-5)


@pytest.mark.slow
def test_a_model_takes_a_step_of_sophia_h():
    sizes = dict(SIZES, num_layers=1, dropout=0.1)
    task = Language(Decoder(**sizes), chunk=2)
    tx, rate = optim.make(
        rule=dict(name="sophia_h"), schedule=dict(RATE, peak=1e-3), num_steps=8
    )
    step = jax.jit(make_step(task, tx, rate=rate, judge=Guard()))
    state, losses = jax.jit(lambda key: start(task, tx, key))(jax.random.key(0)), []
    for _ in range(8):
        state, scores = step(state, BATCH, jax.random.key(0))
        losses.append(float(scores["loss"].value))
    assert sum(losses[4:]) < sum(losses[:4])
    for h in jax.tree.leaves(state.opt_state["rule"].diagonal):
        assert h.any()
        assert jnp.isfinite(h).all()
