"""optim/: what holds for every rule. A rule added to RULES is tested by being there."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.types import Number
from optim import RULES
from tests.optimizing import (
    assert_close,
    distance,
    goal,
    shapes_of,
    spread,
    traced,
    zeros,
)

CONSTANT = dict(name="constant", warmup_steps=0)
LINKS = dict(clip_norm=5.0, l2=0.02, l1=0.01, decay=0.03, peak=0.05)
BEHIND = ("decay", "peak")
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


def numbers_of(name):
    """A rule's numbers by their keys: the defaults, but where those are off."""
    parameters = inspect.signature(RULES[name].build).parameters
    defaults = {key: parameters[key].default for key in RULES[name].ranges}
    return defaults | TRIED.get(name, {})


def values_of(name):
    """The numbers of a rule and of links, which may have some of one name.

    Of the links those behind it, for the others do not know which rule they stand
    before; with Adam all.
    """
    links = LINKS if name == "adam" else {key: LINKS[key] for key in BEHIND}
    return links | {OF_RULE + key: value for key, value in numbers_of(name).items()}


def chain(name, *, peak, clip_norm=np.inf, l2=0.0, l1=0.0, decay=0.0, **numbers):
    links = dict(clip_norm=clip_norm, l2=l2, l1=l1, decay=decay)
    rule = {k.removeprefix(OF_RULE): value for k, value in numbers.items()}
    rule |= COUNTS.get(name, {}) | {"name": name}
    schedule = dict(CONSTANT, peak=peak)
    return optim.make(rule=rule, schedule=schedule, num_steps=NUM_STEPS, **links)[0]


def descend(name, values, start, end, num_steps):
    """Parameters and state after some steps in the bowl about `end`."""
    tx = chain(name, **values)

    def grad_fn(params):
        return jax.tree.map(lambda a, b: (a - b).astype(a.dtype), params, end)

    def step(number, carry):
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
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, num_steps, step, (start, tx.init(start)))


@functools.cache
def with_traced(name):
    """`descend`: one program for all numbers, lengths and places."""
    return jax.jit(functools.partial(descend, name))


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
    values = {"peak": PEAKS.get(name, 0.02)} | IN_A_BOWL.get(name, {})
    run = functools.partial(descend, name, values, num_steps=600)
    end, _ = jax.jit(run)(zeros(), goal())
    assert distance(end, goal()) < 1e-2 * distance(zeros(), goal())


def test_a_rule_takes_traced_numbers_and_those_mapped_over_four_devices(name):
    first = values_of(name)
    second = {key: value / 2 for key, value in first.items()}
    rest = zeros(), goal(), jnp.int32(NUM_STEPS)
    static = jax.jit(functools.partial(descend, name, first))(*rest)
    single = [with_traced(name)(traced(values), *rest) for values in (first, second)]
    assert with_traced(name)._cache_size() == 1
    assert jax.tree.structure(static) == jax.tree.structure(single[0])
    # v holds 1 - b2 as a factor, which float32 has to 1e-5 and a little.
    assert_close(static[0], single[0][0])
    assert_close(static[1], single[0][1], rtol=2e-5)
    mapped = jax.jit(jax.vmap(functools.partial(descend, name), (0, None, None, None)))
    both = jax.tree.map(lambda *x: jnp.stack(x), traced(first), traced(second))
    found = mapped(both, spread(zeros()), spread(goal()), rest[-1])
    assert len(found[0]["embed"].sharding.device_set) == 4
    for i, one in enumerate(single):
        own = jax.tree.map(lambda x, i=i: x[i], jax.device_get(found))
        assert_close(own, one, rtol=1e-6)


def test_every_number_of_a_rule_matters(name):
    first = traced(values_of(name) | {"peak": PEAKS.get(name, LINKS["peak"])})

    def run(values):
        return with_traced(name)(values, zeros(), goal(), jnp.int32(NUM_STEPS))[0]

    before = run(first)
    for key in first:
        changed = jnp.float32(0.1 if key.endswith("eps") else first[key] / 2)
        assert distance(run(first | {key: changed}), before) > 1e-7, key


@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_a_rule_keeps_shapes_dtypes_and_structure_and_its_state_is_arrays(name, kind):
    params = goal() | {"embed": goal()["embed"].astype(jnp.bfloat16)}
    values = {key: kind(x) for key, x in (values_of(name)).items()}

    def first():
        state = chain(name, **values).init(params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
        return state

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
    assert shapes_of(updates) == shapes_of(params)
    assert shapes_of(state) == shapes_of(before)
    assert jax.tree.structure(state) == jax.tree.structure(before)
