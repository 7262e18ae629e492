"""optim/outer against the authors' packages, PyTorch and the papers; refusals.

The golden file is renewed by tests/golden/make_optim_around.py, which says what is in
it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.registry import Block, check
from optim import AVERAGES, OUTER
from tests.optimizing import (
    NUM_STEPS,
    assert_path,
    case_of,
    goal,
    gradient,
    problem,
)
from tests.walking import CONSTANT, follow

RULE = dict(name="sgd", momentum=0.5)
FREE = {
    "free_adamw": dict(
        rule=dict(name="adam", b1=0.0),
        decay=0.3,
        schedule=dict(name="constant", peak=0.02, warmup_steps=10),
        outer=dict(name="schedule_free"),
    ),
    "free_sgd": dict(
        rule=dict(name="gradient_descent"),
        schedule=dict(name="constant", peak=0.1, warmup_steps=10),
        outer=dict(name="schedule_free"),
    ),
    "free_powers": dict(
        rule=dict(name="adam", b1=0.0, b2=0.95),
        schedule=dict(name="constant", peak=0.02, warmup_steps=10),
        outer=dict(name="schedule_free", b=0.8, rate_power=1.0, step_power=1.0),
    ),
}


@pytest.mark.parametrize("case", FREE)
def test_schedule_free_is_the_authors_package_through_its_warmup(case):
    params, found = follow(**FREE[case])
    assert_path(params, case_of("optim_around", case))
    assert_path(found, case_of("optim_around", f"{case}/average"))


def test_schedule_free_at_a_constant_rate_averages_its_walk_uniformly():
    schedule = dict(name="constant", peak=0.05, warmup_steps=0)
    params, found = follow(schedule=schedule, outer=dict(name="schedule_free", b=0.5))
    for name, x in found.items():
        z = 2 * params[name] - x
        means = np.cumsum(z[1:], axis=0) / np.arange(1, 65).reshape(
            -1, *[1] * (z.ndim - 1)
        )
        np.testing.assert_allclose(x[1:], means, rtol=0, atol=5e-6)


def test_an_outer_nesterov_step_is_that_of_pytorch():
    params, found = follow(
        rule=dict(name="adam", b2=0.95),
        decay=0.3,
        outer=dict(name="nesterov", every_steps=8),
    )
    assert_path(params, case_of("optim_around", "diloco"))
    jax.tree.map(np.testing.assert_array_equal, params, found)


def test_an_outer_step_of_rate_one_after_every_step_is_none_at_all():
    outer = dict(name="nesterov", every_steps=1, rate=1.0, momentum=0.0)
    plain = follow(rule=dict(name="adam"))
    jax.tree.map(
        np.testing.assert_array_equal,
        follow(rule=dict(name="adam"), outer=outer),
        plain,
    )


def test_without_momentum_the_outer_step_looks_ahead():
    one = dict(name="nesterov", every_steps=5, rate=0.4, momentum=0.0)
    other = dict(name="lookahead", every_steps=5, share=0.4)
    assert_path(follow(outer=one)[0], follow(outer=other)[0], atol=1e-6)


def looked_ahead(syncs, skipped=()):
    """Lookahead over gradient descent in float64, as the paper's algorithm 1."""
    start, goal, curve, noise = problem()
    fast = {n: w.astype(np.float64) for n, w in start.items()}
    slow, path = dict(fast), [(fast, fast)]
    for t in range(NUM_STEPS):
        if t not in skipped:
            grads = gradient(np, fast, goal, curve, {n: x[t] for n, x in noise.items()})
            fast = {n: w - 0.05 * grads[n] for n, w in fast.items()}
            if t in syncs:
                slow = {n: w + 0.3 * (fast[n] - w) for n, w in slow.items()}
                fast = slow
        path.append((fast, slow))
    return [{n: np.stack([p[i][n] for p in path]) for n in start} for i in (0, 1)]


LOOK = dict(
    schedule=dict(name="constant", peak=0.05, warmup_steps=0),
    outer=dict(name="lookahead", every_steps=4, share=0.3),
)


def test_lookahead_is_algorithm_1_of_its_paper_and_evaluates_the_slow_weights():
    for found, wanted in zip(
        follow(**LOOK), looked_ahead(range(3, NUM_STEPS, 4)), strict=True
    ):
        assert_path(found, wanted)


def test_a_sync_that_a_guard_skips_is_done_at_the_next_step_and_then_on_time():
    skipped = (7, 19, 20, 21)
    syncs = {*range(3, NUM_STEPS, 4)} - set(skipped) | {8, 22}
    found = follow(skipped=skipped, **LOOK)
    for path, wanted in zip(found, looked_ahead(syncs, skipped), strict=True):
        assert_path(path, wanted)


def test_where_it_was_pulled_to_is_the_parameters_to_the_bit():
    for name in ("lookahead", "nesterov"):
        outer = dict(name=name, every_steps=3)
        tx, _ = optim.make(rule=RULE, schedule=CONSTANT, num_steps=8, outer=outer)
        params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), goal())
        state = tx.init(params)
        update = jax.jit(tx.update)
        for number in range(3):
            step = jnp.int32(number)
            updates, state = update(params, state, params, step=step)
            params = optax.apply_updates(params, updates)
        kept = state.slow if name == "lookahead" else state.start
        jax.tree.map(np.testing.assert_array_equal, kept, params)


@pytest.mark.parametrize(
    ("where", "block", "message"),
    [
        ("outer", dict(name="lokahead"), r"'lokahead' is not .*mean 'lookahead'\?"),
        ("outer", dict(name="lookahead", share=0.0), r"share=0\.0 must lie in \(0, "),
        ("outer", dict(name="lookahead", every_steps=0), r"every_steps=0 must lie in"),
        ("outer", dict(name="nesterov", momentum=1.0), r"momentum=1\.0 must lie in"),
        ("outer", dict(name="schedule_free", b=0.0), r"b=0\.0 must lie in \(0, 1\)\."),
        ("outer", dict(name="schedule_free", b1=0.9), r"b1=0\.9 is not known"),
        ("average", dict(name="ema", decay=1.0), r"decay=1\.0 must lie in \[0, 1\)\."),
        ("average", dict(name="swa"), r"^optim\.average\.start_step has no value"),
        ("average", dict(name="lawa", every_steps=0), r"every_steps=0 must lie in"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_one_line(where, block, message):
    table = {"outer": OUTER, "average": AVERAGES}[where]
    with pytest.raises(ValueError, match=message):
        check(block, Block(table, ("tx",), "none"), f"optim.{where}")
