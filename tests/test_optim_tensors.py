"""Rules that take tensors whole, and those that find the rate: packages and papers.

The golden file is renewed by tests/golden/make_optim_tensors.py, which says what is in
it. The papers' formulas are written out below in float64, tensor by tensor.
"""

import numpy as np
import pytest

from tests.optimizing import (
    NUM_STEPS,
    assert_path,
    case_of,
    follow,
    gradient,
    problem,
)

PATHS = {"key": ("mlp", "in"), "in": ("mlp", "in_bias"), "bias": ("mlp", "out_bias")}
SHARE = 0.1  # of decay inside the rule, on the one kernel

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
def test_a_run_is_that_of_the_package(case):
    peak, rule = PACKAGES[case]
    schedule = dict(name="linear", peak=peak, warmup_steps=0)
    found = follow(PATHS, rule=rule, schedule=schedule)
    assert_path(found, case_of("optim_tensors", case))


def test_the_packages_cases_tell_one_another_apart():
    ends = [case_of("optim_tensors", case)["key"][-1] for case in PACKAGES]
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
def test_a_run_is_that_of_the_paper(case):
    step, rate, numbers = PAPERS[case]
    rule = dict(name=case.split()[0], **numbers)
    schedule = dict(name="constant", peak=rate, warmup_steps=0)
    params = follow(PATHS, rule=rule, schedule=schedule)
    w, goal, curve, noise = problem(np.float64)
    first = w
    for t in range(1, NUM_STEPS + 1):
        now = {n: x[t - 1] for n, x in noise.items()}
        w = step(t, rate, w, gradient(np, w, goal, curve, now))
        for n in w:
            np.testing.assert_allclose(params[n][t - 1], w[n], rtol=0, atol=5e-6)
    assert all(np.abs(w[n] - first[n]).max() > 0.1 for n in w)


def test_exact_mars_takes_both_gradients_on_the_same_batch():
    b1, b2, gamma, rate = 0.9, 0.99, 0.5, 0.02
    rule = dict(name="mars", b1=b1, b2=b2, gamma=gamma, exact=True)
    schedule = dict(name="constant", peak=rate, warmup_steps=0)
    params = follow(PATHS, rule=rule, schedule=schedule)
    w, goal, curve, noise = problem(np.float64)
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
