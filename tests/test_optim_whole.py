"""Rules that take tensors whole, or find the rate: what holds whatever the numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optim import RULES
from optim.links import keep_dtypes
from tests.optimizing import normal

OURS = {
    "lamb": dict(eps=1e-30, decay=0.0),
    "lars": dict(decay=0.0),
    "novograd": dict(eps=1e-30, decay=0.0),
    "adafactor": dict(min_dim=1),
    "sm3": dict(),
    "mars": dict(),
    "prodigy": dict(start=0.01, eps=1e-30),
    "dadapt_adam": dict(start=0.01, eps=1e-30),
    "dog": dict(start=0.01, eps=1e-30),
    "dowg": dict(start=0.01),
}
WHOLE = ("lamb", "lars", "novograd", "adafactor", "sm3", "mars", "dog")


@functools.cache
def walker(name, per_tensor=False):
    """(numbers, params, grads, rates) -> updates and states of every step, stacked."""
    words = {k: v for k, v in OURS[name].items() if k not in RULES[name].ranges}
    if per_tensor:
        words["per_tensor"] = True

    @jax.jit
    def walk(numbers, params, grads, rates):
        rule = RULES[name].build(**numbers, **words)
        tx = keep_dtypes(optax.with_extra_args_support(rule))

        def step(carry, now):
            params, state = carry
            grads, rate = now
            updates, state = tx.update(grads, state, params, rate=rate)
            params = jax.tree.map(
                lambda w, u: (w - rate * u).astype(w.dtype), params, updates
            )
            return (params, state), (updates, state)

        return jax.lax.scan(step, (params, tx.init(params)), (grads, rates))[1]

    return walk


def numbers_of(name, **changed):
    given = {k: v for k, v in OURS[name].items() if k in RULES[name].ranges}
    return {k: jnp.float32(v) for k, v in (given | changed).items()}


def some(*lead, seed=0):
    """A tree of two scanned layers and an embedding; `lead` are axes before all."""
    return normal(
        {
            "embed": (*lead, 5, 4),
            "layers": {
                "attention": {"query": (*lead, 2, 4, 2, 3)},
                "mlp": {"in_bias": (*lead, 2, 8)},
            },
        },
        seed,
    )


RATES = np.full(6, 0.1, np.float32)


@pytest.mark.parametrize("name", WHOLE)
def test_each_scanned_layer_gets_what_it_gets_alone(name):
    walk, numbers = walker(name, per_tensor=name == "dog"), numbers_of(name)
    params, grads = some(), some(6, seed=1)
    stacked, _ = walk(numbers, params, grads, RATES)
    for i in range(2):
        alone, _ = walk(
            numbers,
            jax.tree.map(lambda x, i=i: x[i], params["layers"]),
            jax.tree.map(lambda x, i=i: x[:, i], grads["layers"]),
            RATES,
        )
        own = jax.tree.map(lambda x, i=i: x[:, i], stacked["layers"])
        jax.tree.map(assert_equal_but_for_rounding, own, alone)


def assert_equal_but_for_rounding(found, wanted):
    """To four roundings of the largest entry: small ones are differences of such."""
    atol = 4 * np.finfo(np.float32).eps * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("name", [n for n in OURS if n != "mars"])
def test_the_scale_of_the_objective_does_not_matter(name):
    params, grads = some(), some(6, seed=1)
    walk, numbers = walker(name), numbers_of(name)
    updates, _ = walk(numbers, params, grads, RATES)
    larger, _ = walk(numbers, params, jax.tree.map(lambda g: 64 * g, grads), RATES)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7),
        updates,
        larger,
    )


@pytest.mark.parametrize("zero", ["gradients", "rate"])
@pytest.mark.parametrize("name", OURS)
def test_a_first_step_of_zero_does_no_harm(name, zero):
    params, grads, rates = some(), some(6, seed=1), RATES.copy()
    if zero == "rate":
        rates[:2] = 0.0
    else:
        grads = jax.tree.map(np.copy, grads)
        jax.tree.map(lambda g: g[:2].fill(0.0), grads)
    updates, states = walker(name)(numbers_of(name), params, grads, rates)
    for leaf in jax.tree.leaves((updates, states)):
        assert np.isfinite(leaf).all()
    for leaf in jax.tree.leaves(updates):
        if zero == "gradients":
            np.testing.assert_array_equal(leaf[:2], 0.0)
        assert np.abs(leaf[-1]).min() > 0


@pytest.mark.parametrize("name", ["lamb", "lars", "novograd"])
def test_the_decay_of_a_rule_is_of_kernels_only(name):
    params, grads = some(), some(6, seed=1)
    one, _ = walker(name)(numbers_of(name), params, grads, RATES)
    other, _ = walker(name)(numbers_of(name, decay=0.5), params, grads, RATES)
    changed = jax.tree.map(lambda x, y: np.abs(x - y).max() > 1e-3, one, other)
    assert changed == {
        "embed": False,
        "layers": {
            "attention": {"query": True},
            "mlp": {"in_bias": False},
        },
    }


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_step_of_lamb_is_the_rate_as_a_share_of_each_layer(decay):
    params, grads = some(), some(6, seed=1)
    updates, _ = walker("lamb")(
        numbers_of("lamb", decay=decay), params, grads, 0 * RATES
    )
    for tree, num_layers in (("embed", 1), ("layers", 2)):
        for u, w in zip(
            *map(jax.tree.leaves, (updates[tree], params[tree])), strict=True
        ):
            moved = np.linalg.norm(u.reshape(6, num_layers, -1), axis=-1)
            size = np.linalg.norm(w.reshape(num_layers, -1), axis=-1)
            np.testing.assert_allclose(moved, np.stack([size] * 6), rtol=1e-5)


def test_adafactor_divides_a_gradient_with_squares_of_rank_one_by_its_size():
    rng = np.random.default_rng(0)
    size = rng.uniform(0.1, 3.0, (4, 1)) * rng.uniform(0.1, 3.0, (1, 8))
    sign = rng.choice([-1.0, 1.0], (4, 8))
    grads = {"mlp": {"in": jnp.asarray(size * sign, jnp.float32)}}
    tx = RULES["adafactor"].build(min_dim=1, scaled=False)
    updates, state = jax.jit(lambda g: tx.update(g, tx.init(g), g))(grads)
    np.testing.assert_allclose(updates["mlp"]["in"], sign, rtol=1e-5)
    assert sum(x.size for x in jax.tree.leaves(state)) < 4 + 8 + 4


def test_sm3_bounds_the_sum_of_squares_and_is_it_for_a_vector():
    params, grads = some(), some(6, seed=1)
    updates, states = walker("sm3")(
        numbers_of("sm3", momentum=0.0), params, grads, RATES
    )
    sums = jax.tree.map(lambda g: np.cumsum(g**2, axis=0), grads)
    assert jax.tree.all(
        jax.tree.map(
            lambda u, g, s: np.all(np.abs(u) <= np.abs(g) / np.sqrt(s) * 1.00001),
            updates,
            grads,
            sums,
        )
    )
    vector = [tree["layers"]["mlp"]["in_bias"] for tree in (updates, grads, sums)]
    np.testing.assert_allclose(vector[0], vector[1] / np.sqrt(vector[2]), rtol=1e-5)
    (rows, columns), matrix = states[0]["embed"].bounds, sums["embed"]
    assert np.all(np.minimum(rows[:, :, None], columns[:, None]) >= 0.99999 * matrix)


def test_sm3_without_momentum_keeps_rows_and_columns_only():
    tx = RULES["sm3"].build(momentum=0.0)
    sizes = [x.size for x in jax.tree.leaves(tx.init({"embed": np.zeros((50, 40))}))]
    assert sorted(sizes) == [40, 50]


@pytest.mark.parametrize("name", ["sm3", "dog"])
def test_sums_of_squares_go_on_growing_in_bfloat16(name):
    params = {"embed": jnp.ones((2, 3), jnp.bfloat16)}
    grads = {"embed": jnp.ones((1024, 2, 3), jnp.bfloat16)}
    _, states = walker(name)(numbers_of(name), params, grads, np.zeros(1024))
    found = states.squares if name == "dog" else states[0]["embed"].bounds[0][:, 0]
    step = 6 if name == "dog" else 1
    np.testing.assert_allclose(found, step * np.arange(1, 1025), rtol=1e-5)


def test_distances_are_those_to_where_training_began():
    params, grads = some(), some(6, seed=1)
    updates, states = walker("dog")(numbers_of("dog"), params, grads, 10 * RATES)
    moves = [np.cumsum(u, axis=0).reshape(6, -1) for u in jax.tree.leaves(updates)]
    gone = np.linalg.norm(np.concatenate(moves, axis=1), axis=1)
    np.testing.assert_allclose(
        states.farthest[1:], np.maximum.accumulate(gone)[:-1], rtol=1e-4
    )
