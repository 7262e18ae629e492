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
OF_RULE = "rule."  # before the key of a rule's number, for a link may have it too
# AdaGrad's steps shrink as 1 / sqrt(t); AdaDelta has a scale of its own; LARS goes by
# its trust, 0.001; some find the rate out, and take a share of it.
PEAKS = {"adagrad": 0.5, "adadelta": 1.0}  # else 0.02
PEAKS |= {"sm3": 0.5, "lars": 2.0}
PEAKS |= {"prodigy": 1.0, "dadapt_adam": 1.0, "dog": 1.0, "dowg": 1.0}
# Scion's ends move by 60 / D, too far to come to rest where D is 4.
IN_A_BOWL = {"scion": {OF_RULE + "end_radius": 4.0}}
# What is off by default is tried on.
TRIED = {"rmsprop": {"momentum": 0.5}}
TRIED |= {
    "lamb": {"decay": 0.5},
    "lars": {"trust": 0.5, "decay": 0.5},
    "novograd": {"decay": 0.5},
    "adafactor": {"momentum": 0.5, "min_scale": 0.1},
    "prodigy": {"start": 0.1},
    "dadapt_adam": {"start": 0.1},
    "dog": {"start": 0.1},
    "dowg": {"start": 0.1},
    # A root's small eigenvalues, and a sign where its argument is, are rounding.
    "soap": {"eps": 0.3},
    "shampoo": {"b2": 0.9, "root_eps": 0.5},
    # Else every step is a sign.
    "sophia_h": {"gamma": 5.0},
    "sophia_g": {"gamma": 5.0},
}

# What no gradient has turned to yet has any basis, and any curvature that rounding
# gives it: so these look where gradients have been.
COUNTS = {
    "soap": {"max_side": 4, "every_steps": 2},
    "shampoo": {"block": 4, "every_steps": 2},
    "lbfgs": {"num_pairs": 1},
}
# It goes by differences of gradients, of which clipping leaves rounding.
UNCLIPPED = {"lbfgs": {"clip_norm": 100.0}}


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
    """A rule's numbers by their keys: the defaults, but where those are off."""
    parameters = inspect.signature(RULES[name].build).parameters
    defaults = {key: parameters[key].default for key in RULES[name].ranges}
    return defaults | TRIED.get(name, {})


def values_of(name):
    """The numbers of the links and of a rule, which may have some of one name."""
    links = LINKS | UNCLIPPED.get(name, {})
    return links | {OF_RULE + key: value for key, value in numbers_of(name).items()}


def chain(name, *, peak, clip_norm=np.inf, l2=0.0, l1=0.0, decay=0.0, **numbers):
    links = dict(clip_norm=clip_norm, l2=l2, l1=l1, decay=decay)
    rule = {k.removeprefix(OF_RULE): value for k, value in numbers.items()}
    rule |= COUNTS.get(name, {}) | {"name": name}
    schedule = dict(CONSTANT, peak=peak)
    return optim.make(rule=rule, schedule=schedule, num_steps=NUM_STEPS, **links)[0]


def descend(name, values, start, end, num_steps=NUM_STEPS):
    """Parameters and state after some steps in the bowl about `end`."""
    tx = chain(name, **values)

    def grad_fn(params):
        return jax.tree.map(lambda a, b: (a - b).astype(a.dtype), params, end)

    def step(carry, number):
        params, state = carry
        updates, state = tx.update(
            grad_fn(params),
            state,
            params,
            step=number,
            key=jax.random.fold_in(jax.random.key(0), number),
            value_fn=lambda params: distance(params, end) / 2,
            grad_fn=grad_fn,
            sampled_grad_fn=lambda params, key: (
                optax.tree.random_like(key, params),
                1,
            ),
        )
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
    defaults = {key: p.default for key, p in parameters if p.annotation == Number}
    for key, value in [*defaults.items(), *numbers_of(name).items()]:
        assert RULES[name].ranges[key].holds(value)


def test_a_rule_descends_a_bowl(name):
    start = jax.tree.map(jnp.zeros_like, goal())
    values = {"peak": PEAKS.get(name, 0.02)} | IN_A_BOWL.get(name, {})
    run = functools.partial(descend, name, values, num_steps=600)
    end, _ = jax.jit(run)(start, goal())
    assert distance(end, goal()) < 1e-2 * distance(start, goal())


def test_a_rule_takes_traced_numbers_one_by_one_and_mapped(name):
    start = jax.tree.map(jnp.zeros_like, goal())
    first = values_of(name)
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


def assert_matter(keys, name):
    start = jax.tree.map(jnp.zeros_like, goal())
    peak = PEAKS.get(name, LINKS["peak"])
    first = traced(values_of(name) | {"clip_norm": 1.0, "peak": peak})
    run = jax.jit(lambda values: descend(name, values, start, goal())[0])
    before = run(first)
    for key in keys:
        changed = first | {
            key: jnp.float32(0.1 if key.endswith("eps") else first[key] / 2)
        }
        assert distance(run(changed), before) > 1e-7, key


def test_every_number_of_a_rule_matters(name):
    # Of the links, those behind the rule: a sign does not feel clipping.
    assert_matter([*values_of(name).keys() - LINKS, "decay", "peak"], name)


def test_every_number_of_the_chain_matters():
    assert_matter(LINKS, "adam")


@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_a_rule_keeps_shapes_dtypes_and_structure(name, kind):
    params = goal() | {"embed": goal()["embed"].astype(jnp.bfloat16)}
    values = {key: kind(x) for key, x in (values_of(name)).items()}

    def first():
        return chain(name, **values).init(params)

    def step(numbers):
        tx = chain(name, **numbers)
        extra = dict(step=0, key=jax.random.key(0), value_fn=distance)
        extra |= dict(grad_fn=lambda w: w, sampled_grad_fn=lambda w, key: (w, 1))
        return tx.update(params, tx.init(params), params, **extra)

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
    run = jax.jit(functools.partial(descend, name, values_of(name)))
    spread = run(jax.device_put(start, rows), jax.device_put(goal(), rows))
    assert len(spread[0]["embed"].sharding.device_set) == 4
    assert_close(jax.device_get(spread), run(start, goal()), rtol=1e-6)
