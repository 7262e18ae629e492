"""optim/outer and optim/average: what holds for all, and the outer steps themselves.

An entry of OUTER or AVERAGES is tested by being there. The golden file is renewed by
tests/golden/make_optim_around.py, which says what is in it.
"""

import functools
import inspect
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optim
from core.registry import Block, check
from core.types import Number
from optim import AVERAGES, OUTER, walk
from tests.test_optim_reference import gradient, tree
from tests.test_optim_rules import assert_close, distance, goal, traced

FILES = pathlib.Path(__file__).parent / "golden"
NUM_STEPS = 64
TABLES = {"outer": OUTER, "average": AVERAGES}
WAYS = [(kind, name) for kind, table in TABLES.items() for name in sorted(table)]
# Eight steps have two periods, and averages remember some of them.
SHORT = dict(every_steps=3, num_snapshots=2, start_step=2)
RULE = dict(name="sgd", momentum=0.5)
CONSTANT = dict(name="constant", peak=0.02, warmup_steps=0)


def signature(way):
    kind, name = way
    return inspect.signature(TABLES[kind][name].build).parameters


def numbers_of(way):
    """The defaults of its numbers; an average that eight steps show."""
    found = {k: p.default for k, p in signature(way).items() if p.annotation == Number}
    return found | ({"decay": 0.9} if "decay" in found else {})


def chain(way, *, peak=0.05, **options):
    kind, name = way
    short = {key: n for key, n in SHORT.items() if key in signature(way)}
    schedule = dict(name="constant", warmup_steps=3, peak=peak)
    block = {kind: short | options | {"name": name}}
    return optim.make(rule=RULE, schedule=schedule, num_steps=8, **block)[0]


def walked(way, values, start, end, num_steps=8, **options):
    """Parameters, state and what is evaluated after some steps in a bowl."""
    tx = chain(way, **values, **options)

    def step(number, carry):
        params, state = carry
        grads = jax.tree.map(lambda a, b: (a - b).astype(a.dtype), params, end)
        updates, state = tx.update(grads, state, params, step=number)
        return optax.apply_updates(params, updates), state

    params, state = jax.lax.fori_loop(0, num_steps, step, (start, tx.init(start)))
    return params, state, optim.eval_params(state, params)


@functools.cache
def compiled(way, **options):
    """`walked` with traced numbers and a traced length."""
    return jax.jit(functools.partial(walked, way, **options))


def zeros():
    return jax.tree.map(jnp.zeros_like, goal())


@pytest.fixture(params=WAYS, ids="-".join)
def way(request):
    return request.param


def test_every_number_has_a_range_which_holds_its_default(way):
    kind, name = way
    ranges, parameters = TABLES[kind][name].ranges, signature(way)
    assert set(ranges) == set(parameters) - {"tx"}
    for key, within in ranges.items():
        default = parameters[key].default
        assert default is inspect.Parameter.empty or within.holds(default)


def test_what_is_evaluated_descends_a_bowl(way):
    later = {"start_step": 300} if "start_step" in signature(way) else {}
    values = traced({"peak": 0.05} | numbers_of(way))
    run = compiled(way, **later)
    params, _, found = run(values, zeros(), goal(), num_steps=jnp.int32(600))
    assert distance(params, goal()) < 1e-2 * distance(zeros(), goal())
    assert distance(found, goal()) < 1e-2 * distance(zeros(), goal())


def test_traced_numbers_do_as_written_ones_one_by_one_and_mapped(way):
    first = {"peak": 0.05} | numbers_of(way)
    second = {key: value / 2 for key, value in first.items()}
    static = jax.jit(lambda: walked(way, first, zeros(), goal()))()
    single = [
        compiled(way)(traced(values), zeros(), goal(), num_steps=jnp.int32(8))
        for values in (first, second)
    ]
    assert jax.tree.structure(static) == jax.tree.structure(single[0])
    assert_close(static, single[0])
    both = jax.tree.map(lambda *x: jnp.stack(x), traced(first), traced(second))
    mapped = jax.jit(jax.vmap(lambda values: walked(way, values, zeros(), goal())))(
        both
    )
    for i, one in enumerate(single):
        assert_close(one, jax.tree.map(lambda x, i=i: x[i], mapped), rtol=1e-6)


def test_every_number_matters(way):
    first = traced({"peak": 0.05} | numbers_of(way))

    def run(values):
        return compiled(way)(values, zeros(), goal(), num_steps=jnp.int32(8))[2]

    before = run(first)
    for key in first:
        changed = first | {key: first[key] / 2 if first[key] else jnp.float32(1)}
        assert distance(run(changed), before) > 1e-7, key


@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_shapes_dtypes_and_structure_are_kept(way, kind):
    params = goal() | {"embed": goal()["embed"].astype(jnp.bfloat16)}
    values = {key: kind(x) for key, x in numbers_of(way).items()}

    def step(numbers):
        tx = chain(way, **numbers)
        updates, state = tx.update(params, tx.init(params), params, step=0)
        return updates, state, optim.eval_params(state, params)

    before = jax.eval_shape(lambda: chain(way, **values).init(params))
    if kind is float:
        updates, state, found = jax.eval_shape(lambda: step(values))
    else:
        updates, state, found = jax.eval_shape(step, values)
    shape_of = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert shape_of(updates) == shape_of(found) == shape_of(params)
    assert shape_of(state) == shape_of(before)
    assert jax.tree.structure(state) == jax.tree.structure(before)


def test_the_state_is_only_arrays_and_none_of_them_is_a_parameter(way):
    params = goal()
    state = chain(way).init(params)
    mine = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)}
    for leaf in jax.tree.leaves(state):
        assert isinstance(leaf, jax.Array)
        assert leaf.unsafe_buffer_pointer() not in mine
    assert_close(optim.eval_params(state, params), params)


def test_four_devices_do_the_same(way):
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
    rows = {
        "embed": PartitionSpec("fsdp"),
        "layers": {
            "mlp": {"in": PartitionSpec(None, "fsdp")},
            "norm": {"scale": PartitionSpec(None, "fsdp")},
        },
    }
    rows = jax.tree.map(functools.partial(NamedSharding, mesh), rows)
    values = traced({"peak": 0.05} | numbers_of(way))
    run = functools.partial(compiled(way), values, num_steps=jnp.int32(8))
    spread = run(jax.device_put(zeros(), rows), jax.device_put(goal(), rows))
    assert len(spread[0]["embed"].sharding.device_set) == 4
    assert_close(jax.device_get(spread), run(zeros(), goal()), rtol=1e-6)


def test_zero_gradients_and_empty_leaves_stay_finite(way):
    params = {"in": jnp.zeros((0, 3)), "bias": jnp.ones(2)}
    tx = chain(way)
    nothing = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def step(state, number):
        updates, state = tx.update(nothing, state, params, step=number)
        return updates, state, optim.eval_params(state, params)

    state = tx.init(params)
    for number in range(4):
        updates, state, found = step(state, jnp.int32(number))
        for leaf in jax.tree.leaves((updates, state, found)):
            assert jnp.isfinite(leaf).all()
        np.testing.assert_allclose(found["bias"], params["bias"], rtol=1e-6)


def given(kind):
    with np.load(FILES / "optim.npz") as file:
        return tree(dict(file), kind)


@functools.cache
def golden(case):
    with np.load(FILES / "optim_around.npz") as file:
        return tree(dict(file), case)


def follow(*, skipped=(), **options):
    """Parameters before each step and after the last, and what is evaluated there.

    A step that is skipped leaves all but the step as it was, as a guard does.
    """
    return followed(json.dumps(options), skipped)


@functools.cache
def followed(options, skipped):
    defaults = dict(rule=dict(name="gradient_descent"), schedule=CONSTANT)
    tx, _ = optim.make(num_steps=NUM_STEPS, **(defaults | json.loads(options)))
    ok = ~np.isin(np.arange(NUM_STEPS), skipped)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise, ok = now
            grads = gradient(jnp, params, goal, curve, noise)
            updates, new = tx.update(grads, state, params, step=number)
            landed = optax.apply_updates(params, updates)
            params, state = walk.either(ok, (landed, new), (params, state))
            return (params, state), (params, optim.eval_params(state, params))

        first = start, optim.eval_params(tx.init(start), start)
        steps = jnp.arange(NUM_STEPS), noise, jnp.asarray(ok)
        later = jax.lax.scan(step, (start, tx.init(start)), steps)[1]
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    return jax.device_get(run(*map(given, ("start", "goal", "curve", "noise"))))


def assert_path(found, wanted, every_steps=1, atol=5e-6):
    for name, path in wanted.items():
        assert np.abs(path[-1] - path[0]).max() > 0.1
        np.testing.assert_allclose(found[name][::every_steps], path, rtol=0, atol=atol)


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
    assert_path(params, golden(case), every_steps=4)
    assert_path(found, golden(f"{case}/average"), every_steps=4)


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
    assert_path(params, golden("diloco"), every_steps=4)
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
    start, goal, curve, noise = map(given, ("start", "goal", "curve", "noise"))
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
        tx = chain(("outer", name))
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
    with pytest.raises(ValueError, match=message):
        check(block, Block(TABLES[where], ("tx",), "none"), f"optim.{where}")
