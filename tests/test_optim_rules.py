"""optim/: what holds for every rule. A rule added to RULES is tested by being there."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optim
from core.types import Number
from optim import RULES

CONSTANT = dict(name="constant", warmup_steps=0)
LINKS = dict(clip_norm=5.0, l2=0.02, l1=0.01, decay=0.03, peak=0.05)
NUM_STEPS = 8


def goal():
    """A tree with scanned layers, and no two numbers alike."""
    shapes = {
        "embed": (8, 4),
        "layers": {"mlp": {"in": (2, 4, 8)}, "norm": {"scale": (2, 4)}},
    }
    shapes, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    pairs = zip(keys, shapes, strict=True)
    return jax.tree.unflatten(treedef, [jax.random.normal(k, s) for k, s in pairs])


def numbers_of(name):
    """The defaults of a rule's numbers, by their keys."""
    parameters = inspect.signature(RULES[name].build).parameters
    return {key: parameters[key].default for key in RULES[name].ranges}


def chain(name, *, peak, clip_norm=np.inf, l2=0.0, l1=0.0, decay=0.0, **numbers):
    links = dict(clip_norm=clip_norm, l2=l2, l1=l1, decay=decay)
    rule = dict(name=name, **numbers)
    schedule = dict(CONSTANT, peak=peak)
    return optim.make(rule=rule, schedule=schedule, num_steps=NUM_STEPS, **links)[0]


def descend(name, values, start, end, num_steps=NUM_STEPS):
    """Parameters and state after some steps in the bowl about `end`."""
    tx = chain(name, **values)

    def step(carry, number):
        params, state = carry
        grads = jax.tree.map(lambda a, b: (a - b).astype(a.dtype), params, end)
        updates, state = tx.update(grads, state, params, step=number)
        return (optax.apply_updates(params, updates), state), None

    carry = start, tx.init(start)
    return jax.lax.scan(step, carry, jnp.arange(num_steps))[0]


def distance(tree, other):
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), tree, other)
    return sum(jax.tree.leaves(squares))


def traced(values):
    return {key: jnp.float32(value) for key, value in values.items()}


def assert_close(tree, other, rtol=1e-5):
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-6)
    jax.tree.map(close, tree, other)


@pytest.fixture(params=sorted(RULES))
def name(request):
    return request.param


def test_every_number_of_a_rule_has_a_range_which_holds_its_default(name):
    parameters = inspect.signature(RULES[name].build).parameters.items()
    numbers = {key for key, p in parameters if p.annotation == Number}
    assert numbers == set(RULES[name].ranges)
    for key, value in numbers_of(name).items():
        assert RULES[name].ranges[key].holds(value)


def test_a_rule_descends_a_bowl(name):
    start = jax.tree.map(jnp.zeros_like, goal())
    run = functools.partial(descend, name, {"peak": 0.02}, num_steps=600)
    end, _ = jax.jit(run)(start, goal())
    assert distance(end, goal()) < 1e-2 * distance(start, goal())


def test_a_rule_takes_traced_numbers_one_by_one_and_mapped(name):
    start = jax.tree.map(jnp.zeros_like, goal())
    first = LINKS | numbers_of(name)
    second = {key: value / 2 for key, value in first.items()}
    run = functools.partial(descend, name, start=start, end=goal())
    static = [jax.jit(functools.partial(run, values))() for values in (first, second)]
    compiled = jax.jit(lambda values: run(values))
    single = [compiled(traced(values)) for values in (first, second)]
    assert compiled._cache_size() == 1
    for one, other in zip(static, single, strict=True):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        # v holds 1 - b2 as a factor, which float32 has to 1e-5 and a little.
        assert_close(one[0], other[0])
        assert_close(one[1], other[1], rtol=2e-5)
    both = jax.tree.map(lambda *x: jnp.stack(x), traced(first), traced(second))
    mapped = jax.jit(jax.vmap(lambda values: run(values)))(both)
    for i, one in enumerate(single):
        assert_close(one, jax.tree.map(lambda x, i=i: x[i], mapped), rtol=1e-6)


def test_every_number_of_a_rule_matters(name):
    start = jax.tree.map(jnp.zeros_like, goal())
    first = traced(LINKS | numbers_of(name)) | {"clip_norm": jnp.float32(1.0)}
    run = jax.jit(lambda values: descend(name, values, start, goal())[0])
    before = run(first)
    for key in first:
        changed = first | {key: jnp.float32(0.1 if key == "eps" else first[key] / 2)}
        assert distance(run(changed), before) > 1e-7, key


@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_a_rule_keeps_shapes_dtypes_and_structure(name, kind):
    params = goal() | {"embed": goal()["embed"].astype(jnp.bfloat16)}
    values = {key: kind(x) for key, x in (LINKS | numbers_of(name)).items()}

    def first():
        return chain(name, **values).init(params)

    def step(numbers):
        tx = chain(name, **numbers)
        return tx.update(params, tx.init(params), params, step=0)

    before = jax.eval_shape(first)
    if kind is float:
        updates, state = jax.eval_shape(lambda: step(values))
    else:
        updates, state = jax.eval_shape(step, values)
    shape_of = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert shape_of(updates) == shape_of(params)
    assert shape_of(state) == shape_of(before)
    assert jax.tree.structure(state) == jax.tree.structure(before)


def test_the_state_of_a_rule_is_only_arrays(name):
    state = chain(name, **LINKS).init(goal())
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_a_rule_does_the_same_on_four_devices(name):
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
    rows = {
        "embed": PartitionSpec("fsdp"),
        "layers": {
            "mlp": {"in": PartitionSpec(None, "fsdp")},
            "norm": {"scale": PartitionSpec(None, "fsdp")},
        },
    }
    rows = jax.tree.map(functools.partial(NamedSharding, mesh), rows)
    start = jax.tree.map(jnp.zeros_like, goal())
    run = jax.jit(functools.partial(descend, name, LINKS))
    spread = run(jax.device_put(start, rows), jax.device_put(goal(), rows))
    assert len(spread[0]["embed"].sharding.device_set) == 4
    assert_close(jax.device_get(spread), run(start, goal()), rtol=1e-6)
