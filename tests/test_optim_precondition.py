"""SOAP, Shampoo, Sophia: the papers in float64, and PyTorch.

The golden file is renewed by tests/golden/make_optim_precondition.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optim import RULES
from optim.rules.lbfgs import lbfgs
from optim.rules.shampoo import check, shampoo
from optim.rules.soap import soap
from optim.rules.sophia import sophia_g, sophia_h
from tests.optimizing import (
    NUM_STEPS,
    assert_path,
    case_of,
    follow,
    gradient,
    load,
    normal,
    play,
    problem,
)

PLACES = {"key": ("embed",), "in": ("scale",), "bias": ("bias",)}
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


def follow_in_float64(name, direction):
    """The path of one tensor; `direction(t, gradient)` is the paper's, t from 0."""
    start, goal, curve, noise = ({name: x[name]} for x in problem(np.float64))
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
def test_soap_is_that_of_pytorch_optimizer_and_of_the_paper(case):
    params = follow(PLACES, rule=dict(name="soap", **SOAPS[case]), schedule=RATE)
    assert_path(params, case_of("optim_precondition", case))
    paper = follow_in_float64("key", soap_in_float64(**SOAPS[case]))
    np.testing.assert_allclose(params["key"], paper, rtol=0, atol=5e-6)


@pytest.mark.parametrize("case", SHAMPOOS)
def test_shampoo_is_that_of_the_paper(case):
    rule = dict(name="shampoo", **SHAMPOOS[case])
    params = follow(PLACES, rule=rule, schedule=RATE)
    paper = follow_in_float64("key", shampoo_in_float64(**SHAMPOOS[case]))
    assert np.abs(paper[-1] - paper[0]).max() > 0.1
    np.testing.assert_allclose(params["key"], paper, rtol=0, atol=5e-6)


def test_shampoo_of_sums_is_that_of_pytorch_optimizer():
    numbers = dict(b1=0.0, b2=1.0, root_eps=1e-9, every_steps=1)
    rule = dict(name="shampoo", statistics="sum", graft="none", **numbers)
    params = follow(PLACES, rule=rule, schedule=RATE)
    assert_path(params, {"key": load("optim_precondition")["shampoo/key"]})


@pytest.mark.parametrize("numbers", [{}, dict(b1=0.9, b2=0.8, gamma=2.0, eps=1e-2)])
def test_sophia_h_is_that_of_the_paper(numbers):
    rule = dict(name="sophia_h", every_steps=4, **numbers)
    params = follow(PLACES, rule=rule, schedule=RATE)
    for name, curve in problem(np.float64)[2].items():
        direction = sophia_in_float64(curve, every_steps=4, **numbers)
        paper = follow_in_float64(name, direction)
        np.testing.assert_allclose(params[name], paper, rtol=0, atol=5e-6)


AT_EVERY_STEP = {
    "soap": soap(every_steps=1),
    "shampoo": shampoo(every_steps=1),
    "shampoo_sum": shampoo(every_steps=1, statistics="sum", graft="none", block=2),
    "sophia_h": sophia_h(every_steps=1),
    "sophia_g": sophia_g(every_steps=1),
    "lbfgs": lbfgs(),
}


@pytest.mark.parametrize("rule", AT_EVERY_STEP)
def test_zero_gradients_at_first_give_finite_updates_and_leave_no_trace(rule):
    grads = normal({"embed": (4, 3, 5), "bias": (4, 4)})
    grads["embed"] = grads["embed"].at[:3].set(0.0)

    def zeros(params, *_):
        return jax.tree.map(jnp.zeros_like, params)

    extra = dict(grad_fn=zeros, sampled_grad_fn=lambda *w: (zeros(*w), 1.0))
    new = play(AT_EVERY_STEP[rule], grads, **extra)["embed"]
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
    entry = RULES[rule]
    entry.check()
    with pytest.raises(ValueError, match=message):
        entry.check(**numbers)


def test_a_sum_of_everything_is_not_refused():
    check(b2=1.0, statistics="sum")
