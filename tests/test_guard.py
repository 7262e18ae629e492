"""The numerics guard: train/guard.py."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from core.registry import Block, build, check
from train import guard
from train.guard import GUARD, RECENT, WINDOW, Guard, GuardState

RULES = {
    "still": optax.sgd(0.0),
    "adam": optax.adam(0.01),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)),
}
EVENTS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge": 1e25}


def start(tx):
    params = {"in": jnp.ones((8, 4)), "out": {"bias": jnp.full(4, 0.5)}}
    return jnp.int32(0), params, tx.init(params), guard.init()


@functools.cache
def step_of(tx, judge):
    """A step whose loss, gradient of one entry and update can be broken by inputs."""

    @jax.jit
    def step(state, loss, grad, update, scale):
        number, params, opt_state, memory = state
        grads = jax.tree.map(lambda p: 0.1 * p * scale, params)
        grads["in"] = grads["in"].at[3, 1].add(grad)
        updates, new = tx.update(grads, opt_state, params)
        updates["out"]["bias"] = updates["out"]["bias"].at[0].add(update)
        verdict = judge(
            memory,
            loss=1.0 + jnp.float32(loss),
            grads=grads,
            updates=updates,
            old=(params, opt_state),
            new=(optax.apply_updates(params, updates), new),
        )
        return (number + 1, *verdict.kept, verdict.state), verdict.ok

    return lambda state, loss=0.0, grad=0.0, update=0.0, scale=1.0: step(
        state, loss, grad, update, scale
    )


def same(one, two):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def placed(state):
    """The state over four devices, its matrices split."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def place(x):
        spec = PartitionSpec("data" if x.ndim == 2 else None)
        return jax.device_put(
            x, NamedSharding(mesh, spec if x.ndim else PartitionSpec())
        )

    return jax.tree.map(place, state)


@pytest.mark.parametrize(
    ("rule", "place"),
    [("momentum", lambda x: x), ("adam", lambda x: x), ("clipped", placed)],
    ids=["momentum", "adam", "clipped, 4 devices"],
)
def test_exactly_the_broken_steps_change_nothing(rule, place):
    step = step_of(RULES[rule], Guard())
    state = place(start(RULES[rule]))
    broken = 0
    for where in ("loss", "grad", "update"):
        for name, value in EVENTS.items():
            state, ok = step(state)
            assert ok, "a sound step was skipped"
            if where == "loss" and name == "huge":
                continue  # a finite loss hurts nobody
            before = state
            state, ok = step(state, **{where: value})
            broken += 1
            assert not ok, (where, name)
            assert same(state[1:3], before[1:3]), (where, name)
            assert state[0] == before[0] + 1  # schedule and data go on
    memory = state[3]
    assert memory.num_skipped == broken == memory.skipped_R.sum()
    assert memory.num_accepted == state[0] - broken
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_the_state_after_broken_steps_is_that_of_a_run_without_them():
    step = step_of(RULES["adam"], Guard())
    clean = broken = start(RULES["adam"])
    for value in (math.nan, 1e25, math.inf):
        clean, _ = step(clean)
        broken, _ = step(broken, grad=value)
        broken, _ = step(broken)
    assert same(clean[1:3], broken[1:3])


def test_a_second_moment_that_overflows_is_refused_though_all_else_is_finite():
    judge = jax.jit(lambda state, given: Guard()(state, **given))
    params, moment = {"x": jnp.ones(3)}, {"x": jnp.ones(3)}
    small = {"x": jnp.full(3, 1e-3)}
    new = (params, {"x": jnp.array([1.0, jnp.inf, 1.0])})
    given = dict(loss=jnp.float32(1), grads=small, updates=small, old=(params, moment))
    verdict = judge(guard.init(), given | {"new": new})
    assert not verdict.ok
    assert same(verdict.kept, (params, moment))


def test_a_number_that_begins_as_inf_may_stay_so():
    judge = jax.jit(lambda state, given: Guard()(state, **given))
    params, best = {"x": jnp.ones(3)}, jnp.float32(jnp.inf)
    small = {"x": jnp.full(3, 1e-3)}
    given = dict(loss=jnp.float32(1), grads=small, updates=small, new=(params, best))
    assert judge(guard.init(), given | {"old": (params, best)}).ok
    assert not judge(guard.init(), given | {"old": (params, jnp.float32(2))}).ok


def test_a_spike_is_skipped_once_the_window_is_full_and_never_enters_it():
    tx = RULES["still"]  # the norm is the same at each step
    step = step_of(tx, Guard(spike=5.0))
    state = start(tx)
    for _ in range(WINDOW):
        state, ok = step(state, scale=20.0)
        assert ok, "there is no median yet"
        state, ok = step(state, grad=math.nan)
        assert not ok
    norms = np.asarray(state[3].norms_W)
    np.testing.assert_allclose(norms, norms[0])
    state, ok = step(state, scale=101.0)
    assert not ok
    assert np.array_equal(state[3].norms_W, norms)
    state, ok = step(state, scale=99.0)
    assert ok
    assert state[3].norms_W.max() > 4 * norms[0]


@pytest.mark.parametrize("spike", [5.0, math.inf])
def test_a_spike_is_an_input_and_inf_turns_it_off(spike):
    tx = RULES["still"]

    @functools.partial(jax.jit, static_argnums=2)
    def run(state, spike, last):
        step = step_of.__wrapped__(tx, Guard(spike=spike))
        scales = jnp.ones(WINDOW + 1).at[-1].set(last)
        return jax.lax.scan(lambda s, x: step(s, scale=x), state, scales)

    _, ok = run(start(tx), spike, 1e6)
    assert ok[:-1].all()
    assert ok[-1] == math.isinf(spike)


def test_gradients_of_zero_do_not_make_a_spike_of_all_that_follows():
    tx = RULES["still"]
    step = step_of(tx, Guard(spike=5.0))
    state = start(tx)
    for _ in range(WINDOW):
        state, _ = step(state, scale=0.0)
    assert step(state)[1]


def remembered(outcomes):
    state = guard.init()
    remember = jax.jit(guard._remember)
    for ok in outcomes:
        state = remember(state, jnp.bool_(ok), jnp.float32(1))
    return jax.device_get(state)


def test_the_budget_of_a_streak_trips_one_step_after_its_last():
    judge = Guard(max_streak=3, max_share=1.0)
    assert judge.trouble(remembered([True] + [False] * 3)) is None
    line = judge.trouble(remembered([True] + [False] * 4))
    assert line.startswith("4 steps in a row")
    assert "guard.max_streak=3" in line
    assert judge.trouble(remembered([False] * 9 + [True])) is None


def test_two_bad_steps_in_three_trip_the_budget_of_a_share_exactly():
    judge = Guard(max_streak=3, max_share=0.25)
    allowed = RECENT // 4
    outcomes = [False, False, True] * (allowed // 2)
    assert judge.trouble(remembered(outcomes)) is None
    line = judge.trouble(remembered([*outcomes, False]))
    assert line.startswith(f"{allowed + 1} of the last {RECENT} steps")
    assert "guard.max_share=0.25" in line


def test_the_share_forgets_what_is_long_ago():
    judge = Guard(max_streak=RECENT, max_share=0.25)
    bad = [False] * (RECENT // 4 + 1)
    assert judge.trouble(remembered(bad)) is not None
    assert judge.trouble(remembered(bad + [True] * (RECENT - len(bad)))) is not None
    assert judge.trouble(remembered(bad + [True] * (RECENT - len(bad) + 1))) is None


@pytest.mark.parametrize("values", [[3e25, 4e25], [3e-30, 4e-30], [0.0, 0.0], [3, -4]])
def test_the_norm_neither_overflows_nor_vanishes(values):
    tree = {"a": jnp.array(values[:1], jnp.float32), "b": jnp.float32(values[1])}
    exact = np.linalg.norm(np.array(values, np.float64))
    np.testing.assert_allclose(jax.jit(guard.safe_norm)(tree), exact, rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_norm_of_what_is_not_finite_is_not(value):
    tree = {"a": jnp.array([1.0, value]), "b": jnp.ones(2, jnp.bfloat16)}
    assert not np.isfinite(jax.jit(guard.safe_norm)(tree))


def test_the_guard_maps_over_trials():
    @jax.jit
    @jax.vmap
    def judge(state, loss, grads):
        pair = (grads, loss)
        given = dict(loss=loss, grads=grads, updates=grads, old=pair, new=pair)
        return Guard()(state, **given).ok

    states = jax.tree.map(lambda x: jnp.stack([x, x]), guard.init())
    ok = judge(states, jnp.ones(2), jnp.array([[1.0], [jnp.nan]]))
    assert ok.tolist() == [True, False]


def test_no_field_of_the_state_hides_a_method_of_tuples():
    assert not {"count", "index"} & set(GuardState._fields)


@pytest.mark.parametrize(
    ("key", "value"), [("spike", 1.0), ("max_streak", -1), ("max_share", 1.1)]
)
def test_a_value_out_of_range_is_refused(key, value):
    block = dict(spike=10.0, max_streak=5, max_share=0.5)
    check(block, Block(GUARD), "guard")
    with pytest.raises(ValueError, match=rf"guard\.{key}={value} must lie in"):
        check(block | {key: value}, Block(GUARD), "guard")
    assert build(GUARD, block) == Guard(10.0, 5, 0.5)
