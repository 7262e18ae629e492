"""optim/outer and optim/average: what holds for all of them.

An entry of OUTER or AVERAGES is tested by being there.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.types import Number
from optim import AVERAGES, OUTER
from tests.optimizing import (
    assert_close,
    distance,
    goal,
    shapes_of,
    spread,
    traced,
    zeros,
)

TABLES = {"outer": OUTER, "average": AVERAGES}
WAYS = [(kind, name) for kind, table in TABLES.items() for name in sorted(table)]
# Eight steps have two periods, and averages remember some of them.
SHORT = dict(every_steps=3, num_snapshots=2, start_step=2)
RULE = dict(name="sgd", momentum=0.5)


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


def test_traced_numbers_do_as_written_ones_and_so_do_those_mapped_over_devices(way):
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
    mapped = jax.jit(jax.vmap(functools.partial(walked, way), (0, None, None)))
    found = mapped(both, spread(zeros()), spread(goal()))
    assert len(found[0]["embed"].sharding.device_set) == 4
    for i, one in enumerate(single):
        own = jax.tree.map(lambda x, i=i: x[i], jax.device_get(found))
        assert_close(own, one, rtol=1e-6)


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
    assert shapes_of(updates) == shapes_of(found) == shapes_of(params)
    assert shapes_of(state) == shapes_of(before)
    assert jax.tree.structure(state) == jax.tree.structure(before)


def test_the_state_is_only_arrays_and_none_of_them_is_a_parameter(way):
    params = goal()
    state = chain(way).init(params)
    mine = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)}
    for leaf in jax.tree.leaves(state):
        assert isinstance(leaf, jax.Array)
        assert leaf.unsafe_buffer_pointer() not in mine
    assert_close(optim.eval_params(state, params), params)


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
