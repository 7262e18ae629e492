"""Adaptive rules against PyTorch, other packages, and their papers in float64.

The golden file is renewed by tests/golden/make_optim_adaptive.py.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from core.registry import Block, build, check
from optim import RULES
from tests.adapting import FORMULAS
from tests.optimizing import assert_path, case_of, gradient, load, problem

NUM_STEPS = 64
ADAM = dict(b1=0.9, b2=0.999, eps=1e-8)
GRAVES = dict(name="rmsprop", b2=0.9, eps=1e-4, momentum=0.9)
MIX = dict(name="ademamix", b1=0.9, b2=0.99, b3=0.95, alpha=5.0, eps=1e-8)
WARM = dict(MIX, b3=0.999, alpha_steps=40, b3_steps=50)
# The rule, the peak of its falling rate, and the decay of kernels.
CASES = {
    "nadam": (dict(ADAM, name="nadam"), 0.02, 0.0),
    "nadamw": (dict(ADAM, name="nadamw"), 0.02, 0.3),
    "radam": (dict(ADAM, name="radam"), 0.02, 0.0),
    "radam_long": (dict(ADAM, name="radam", b2=0.9999), 0.02, 0.0),
    "amsgrad": (dict(ADAM, name="amsgrad", b2=0.9), 0.02, 0.0),
    "amsgrad_raw": (dict(ADAM, name="amsgrad", corrected=False), 0.005, 0.0),
    "adamax": (dict(ADAM, name="adamax"), 0.02, 0.0),
    "adagrad": (dict(name="adagrad", eps=1e-10), 0.1, 0.0),
    "adadelta": (dict(name="adadelta", rho=0.9, eps=1e-6), 2.0, 0.0),
    "rmsprop": (dict(name="rmsprop", b2=0.99, eps=1e-8), 0.02, 0.0),
    "rmsprop_momentum": (GRAVES, 0.002, 0.0),
    "rmsprop_centered": (dict(GRAVES, centered=True), 0.002, 0.0),
    "adabelief": (dict(ADAM, name="adabelief", eps=1e-16), 0.02, 0.0),
    "adabelief_dull": (dict(ADAM, name="adabelief", eps=1e-4), 0.02, 0.0),
    "yogi": (dict(ADAM, name="yogi", eps=1e-3), 0.02, 0.0),
    "adopt": (dict(ADAM, name="adopt", b2=0.9, eps=1e-6), 0.02, 0.0),
    "adopt_free": (
        dict(ADAM, name="adopt", b2=0.9, eps=0.2, clipped=False),
        0.02,
        0.0,
    ),
    "adan": (dict(name="adan", b1=0.98, b2=0.92, b3=0.99, eps=1e-8), 0.02, 0.0),
    "adan_other": (dict(name="adan", b1=0.9, b2=0.8, b3=0.95, eps=1e-4), 0.02, 0.0),
    "ademamix": (MIX, 0.02, 0.0),
    "ademamix_warm": (WARM, 0.02, 0.0),
    "ademamix_even": (dict(WARM, b3=0.9999, alpha_steps=48, b3_steps=48), 0.02, 0.0),
    "lion": (dict(name="lion", b1=0.9, b2=0.99), 0.02, 0.0),
    "signum": (dict(name="signum", momentum=0.9), 0.02, 0.0),
}
NAMES = sorted({rule["name"] for rule, _, _ in CASES.values()})


def walk(values, case):
    """The parameters after every step, with `values` for some of the rule's numbers."""
    rule, peak, decay = CASES[case]
    schedule = dict(name="linear", peak=peak, warmup_steps=0)
    tx, _ = optim.make(
        rule=rule | values, schedule=schedule, num_steps=NUM_STEPS, decay=decay
    )
    start, goal, curve, noise = problem()

    def step(carry, now):
        params, state = carry
        number, noise = now
        grads = gradient(jnp, params, goal, curve, noise)
        updates, state = tx.update(grads, state, params, step=number)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), params

    return jax.lax.scan(step, (start, tx.init(start)), (jnp.arange(NUM_STEPS), noise))[
        1
    ]


@functools.cache
def path(case):
    return jax.device_get(jax.jit(lambda: walk({}, case))())


TOLD = [case for case in CASES if CASES[case][0]["name"] in FORMULAS]


@pytest.mark.parametrize("case", TOLD)
def test_a_run_is_the_paper_in_float64(case):
    rule, peak, _ = CASES[case]
    formula = functools.partial(
        FORMULAS[rule["name"]], **{k: v for k, v in rule.items() if k != "name"}
    )
    start, goal, curve, noise = problem(np.float64)
    states = {name: collections.defaultdict(float) for name in start}
    params, points = start, []
    for step in range(NUM_STEPS):
        now = {name: noise[name][step] for name in noise}
        grads = gradient(np, params, goal, curve, now)
        rate = peak * (1 - step / NUM_STEPS)
        params = {
            n: w - rate * formula(states[n], step + 1, grads[n])
            for n, w in params.items()
        }
        points.append(params)
    for name in start:
        wanted = np.stack([point[name] for point in points])
        assert np.abs(wanted[-1] - start[name]).max() > 0.1
        np.testing.assert_allclose(path(case)[name], wanted, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    "case",
    sorted({key.split("/")[0] for key in load("optim_adaptive")}),
)
def test_a_run_is_that_of_another_package(case):
    assert_path(path(case), case_of("optim_adaptive", case))


def test_the_cases_tell_one_another_apart():
    ends = [path(case)["key"][-1] for case in CASES]
    for i, end in enumerate(ends):
        assert all(np.abs(end - other).max() > 1e-3 for other in ends[:i])


WORDS = ["rmsprop_centered", "amsgrad_raw", "adopt_free", "ademamix_warm"]


@pytest.mark.parametrize("case", WORDS)
def test_a_rule_takes_traced_numbers_under_its_other_words(case):
    ranges = RULES[CASES[case][0]["name"]].ranges
    values = {key: CASES[case][0][key] for key in ranges}
    pair = {key: jnp.array([value, value / 2]) for key, value in values.items()}
    mapped = jax.jit(jax.vmap(functools.partial(walk, case=case)))(pair)
    for name, wanted in path(case).items():
        np.testing.assert_allclose(mapped[name][0], wanted, rtol=0, atol=1e-5)
        assert np.abs(mapped[name][1] - wanted).max() > 1e-3
        assert np.all(np.isfinite(mapped[name]))


def directions(name, grads):
    """The updates of a rule with its defaults, for gradients stacked by step."""
    tx = build(RULES, dict(name=name))

    def step(state, grads):
        updates, state = tx.update(grads, state)
        return state, updates

    return jax.lax.scan(step, tx.init(jax.tree.map(lambda g: g[0], grads)), grads)[1]


def test_no_gradient_is_no_update():
    still = {"in": jnp.zeros((8, 3, 2)), "bias": jnp.zeros((8, 0))}
    found = jax.jit(lambda: {name: directions(name, still) for name in NAMES})()
    for name, updates in found.items():
        assert updates["bias"].shape == (8, 0)
        assert not np.any(updates["in"]), name


def test_the_size_of_the_gradient_does_not_matter():
    # To Yogi and AdaDelta it does, and to the first steps of RAdam.
    names = sorted(set(NAMES) - {"yogi", "adadelta", "radam"})
    noise = jnp.asarray(load("optim")["noise/key"])

    @jax.jit
    def run(scale):
        return {name: directions(name, scale * noise) for name in names}

    small, large = run(1.0), run(4096.0)
    for name in names:
        np.testing.assert_allclose(small[name], large[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", ["lion", "signum"])
def test_every_coordinate_moves_by_the_rate_or_not_at_all(name):
    grads = jnp.array([[3.0, -1e-30, 0.0, 1e20], [-4.0, 1e-30, 0.0, 1.0]])
    np.testing.assert_array_equal(
        directions(name, grads), [[1, -1, 0, 1], [-1, 1, 0, 1]]
    )


@pytest.mark.parametrize("name", ["amsgrad", "adamax", "adagrad", "adan"])
def test_the_first_step_is_the_sign(name):
    grads = jnp.array([[3.0, -1e-4, 2e4]])
    np.testing.assert_allclose(directions(name, grads), [[1, -1, 1]], rtol=2e-4)


def test_ademamix_without_its_slow_mean_is_adam():
    noise = jnp.asarray(load("optim")["noise/key"])
    mix = build(RULES, dict(ADAM, name="ademamix", alpha=0.0))
    adam = build(RULES, dict(ADAM, name="adam"))
    mix_state, adam_state = mix.init(noise[0]), adam.init(noise[0])
    for grads in noise[:3]:
        one, mix_state = mix.update(grads, mix_state)
        other, adam_state = adam.update(grads, adam_state)
        np.testing.assert_array_equal(one, other)


def test_centered_rmsprop_is_finite_where_the_gradient_does_not_vary():
    tx = build(RULES, dict(GRAVES, momentum=0.0, centered=True))
    grads = jnp.linspace(0.1, 100.0, 64)

    def step(state, _):
        updates, state = tx.update(grads, state)
        return state, updates

    _, updates = jax.lax.scan(step, tx.init(grads), length=400)
    assert np.all(np.isfinite(updates))
    assert np.abs(updates).max() <= 100.0 / GRAVES["eps"] * (1 + 1e-6)


def test_a_negative_warmup_is_refused():
    with pytest.raises(ValueError, match="b3_steps=-1 must be 0, for none, or more"):
        check(dict(name="ademamix", b3_steps=-1), Block(RULES), "optim.rule")
