"""optim/: numbers that change with the step, and the words of all such in a config."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.numbers import join, split
from core.overrides import resolve
from optim import RULES
from tests.optimizing import assert_close, goal, shapes_of
from tests.runs import tiny
from train.assemble import check
from train.schema import OF_STEP, PROGRAM, SCHEMA

NUM_STEPS = 60
CONSTANT = dict(name="constant", peak=0.5, warmup_steps=0)
ADAM = dict(name="adam", b1=0.9, b2=0.98, eps=1e-6)
POINTS = dict(boundary_shares=(0.0, 0.5), level_shares=(0.5, 1.0), warmup_steps=0)
RISING = dict(name="piecewise", **POINTS)
FALLING = dict(name="cosine", warmup_steps=3, final_share=0.1)


def small():
    return {"in": jnp.array([3.0, -0.5, 0.25]), "bias": jnp.array([-4.0])}


def chain(rule=ADAM, schedule=CONSTANT, **options):
    return optim.make(rule=rule, schedule=schedule, num_steps=NUM_STEPS, **options)[0]


def gradients(params, number):
    """Others at every step."""
    return jax.tree.map(lambda w: jnp.sin(3.0 * number + w) + 0.2 * w, params)


def walk(tx, params, values=None, num_steps=NUM_STEPS):
    """The parameters after every step; `values` are the objective's."""
    values = jnp.zeros(num_steps) if values is None else values

    def step(carry, now):
        params, state = carry
        number, value = now
        grads = gradients(params, number)
        updates, state = tx.update(grads, state, params, step=number, value=value)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), params

    carry = params, tx.init(params)
    return jax.lax.scan(step, carry, (jnp.arange(num_steps), values))[1]


def test_what_is_off_leaves_no_trace():
    none = dict(name="none")
    off = dict(decay_schedule=none, b1_schedule=none, b2_schedule=none)
    off |= dict(plateau=dict(factor=1.0, patience=3), layer_decay=1.0)

    def program(options):
        tx = chain(decay=0.1, **options)
        state = tx.init(goal())
        assert list(state) == ["rule", "decay", "rate"]
        return tx.update(goal(), state, goal(), step=0)

    jaxprs = [str(jax.make_jaxpr(lambda o=o: program(o))()) for o in ({}, off)]
    assert jaxprs[0] == jaxprs[1]


def test_decay_is_multiplied_by_its_share_of_the_step():
    schedule = dict(name="linear", peak=0.5, warmup_steps=0)
    tx = chain(schedule=schedule, decay=0.3, decay_schedule=FALLING)
    zero = jax.tree.map(jnp.zeros_like, small())

    def step(carry, number):
        params, state = carry
        updates, state = tx.update(zero, state, params, step=number)
        return (jax.tree.map(jnp.add, params, updates), state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(NUM_STEPS))[0])
    end, _ = run((small(), tx.init(small())))
    t = np.arange(NUM_STEPS)
    fall = np.clip((t - 3) / (NUM_STEPS - 3), 0, 1)
    share = np.minimum(1, (t + 1) / 3) * (0.1 + 0.9 * (1 + np.cos(np.pi * fall)) / 2)
    product = np.prod(1 - 0.5 * (1 - t / NUM_STEPS) * 0.3 * share)
    assert product < 0.1
    np.testing.assert_allclose(end["in"], small()["in"] * product, rtol=2e-6)
    np.testing.assert_array_equal(end["bias"], small()["bias"])


def test_scheduled_betas_are_those_of_inject_hyperparams():
    tx = chain(b1_schedule=RISING, b2_schedule=FALLING)
    b1 = optax.piecewise_interpolate_schedule("linear", 0.45, {NUM_STEPS // 2: 2.0})
    parts = [
        optax.linear_schedule(0.98 / 3, 0.98, 2),
        optax.cosine_decay_schedule(0.98, NUM_STEPS - 3, 0.1),
    ]
    b2 = optax.join_schedules(parts, [3])
    adam = optax.inject_hyperparams(optax.scale_by_adam, static_args=("eps",))
    theirs = optax.with_extra_args_support(
        optax.chain(adam(b1=b1, b2=b2, eps=1e-6), optax.scale(-0.5))
    )
    ours, wanted = (jax.jit(lambda t=t: walk(t, small()))() for t in (tx, theirs))
    assert_close(ours, wanted, rtol=0, atol=5e-6)
    plain = jax.jit(lambda: walk(chain(), small()))()
    assert jnp.abs(plain["in"] - ours["in"]).max() > 0.1


def test_scheduled_betas_are_adam_with_the_betas_of_the_step():
    """In float64; the corrections are those of the step's own betas."""
    tx = chain(b1_schedule=RISING)
    found = jax.jit(lambda: walk(tx, small()))()
    for name, w in small().items():
        w, m, v = np.asarray(w, np.float64), 0.0, 0.0
        for t in range(NUM_STEPS):
            b1, b2 = 0.9 * min(1, 0.5 + t / NUM_STEPS), 0.98
            g = np.sin(3.0 * t + w) + 0.2 * w
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            m_hat, v_hat = m / (1 - b1 ** (t + 1)), v / (1 - b2 ** (t + 1))
            w = w - 0.5 * m_hat / (np.sqrt(v_hat) + 1e-6)
            np.testing.assert_allclose(found[name][t], w, rtol=0, atol=1e-4)


def test_a_number_that_is_off_stays_off_under_a_schedule():
    off = dict(name="adam", b1=0.0)
    for tx in (chain(decay_schedule=FALLING), chain(off, b1_schedule=RISING)):
        state = tx.init(small())
        update = functools.partial(tx.update, params=small(), step=0)
        _, after = jax.eval_shape(update, small(), state)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert "decay" not in state


@pytest.mark.parametrize(
    "rule", sorted(name for name, entry in RULES.items() if "b1" in entry.ranges)
)
def test_any_rule_with_a_b1_has_a_schedule_of_it_and_keeps_its_state(rule):
    plain, tx = chain(dict(name=rule)), chain(dict(name=rule), b1_schedule=RISING)
    params = goal()
    extra = dict(value_fn=lambda p: 0.0, grad_fn=lambda p: p, key=jax.random.key(0))
    extra |= dict(sampled_grad_fn=lambda p, key: (p, jnp.float32(1)))

    def update(tx):
        return tx.update(params, tx.init(params), params, step=jnp.int32(3), **extra)

    shapes = [jax.eval_shape(lambda t=t: update(t)) for t in (plain, tx)]
    assert shapes_of(shapes[0]) == shapes_of(shapes[1])


def config_of(**typed):
    return tiny(**{f"optim__{key}": value for key, value in typed.items()})


def test_counts_of_every_schedule_are_inputs_of_one_program():
    typed = dict(b1_schedule__name="cosine", decay_schedule__name="piecewise")
    typed |= dict(decay_schedule__boundary_shares="0.1,0.5", decay="0.1")
    typed |= dict(decay_schedule__level_shares="1.0,0.2", b1_schedule__warmup_steps=2)
    typed |= dict(decay_schedule__warmup_steps=0)
    typed |= dict(plateau__factor=0.5, plateau__every_steps=2, layer_decay=0.8)
    blocks = {where: SCHEMA[where] for where in PROGRAM}
    seen = []

    @functools.partial(jax.jit, static_argnames="static")
    def program(values, static):
        seen.append(values)
        block = dict(join(static.config, values)["optim"])
        tx, _ = optim.make(**block, num_steps=20)
        return walk(tx, small(), num_steps=8)

    for warmup_steps, share in ((2, 0.5), (5, 0.25)):
        typed |= dict(b1_schedule__warmup_steps=warmup_steps)
        typed |= dict(decay_schedule__boundary_shares=f"0.1,{share}")
        config = config_of(**typed)
        check(config)
        values = split(config, blocks, whole=OF_STEP)
        found = program(values, Static(config))
        tx, _ = optim.make(**config["optim"], num_steps=20)
        static = jax.jit(lambda tx=tx: walk(tx, small(), num_steps=8))()
        assert_close(found, static, atol=0)
    assert len(seen) == 1
    assert {"optim.b1_schedule.warmup_steps", "optim.layer_decay"} <= values.keys()
    assert values["optim.decay_schedule.boundary_shares"].shape == (2,)
    assert "optim.plateau.patience" not in values


class Static:
    """A config that is the same whatever its numbers are."""

    def __init__(self, config):
        self.config = config

    def __eq__(self, other):
        return isinstance(other, Static)

    def __hash__(self):
        return 0


def test_a_config_without_these_blocks_has_them_off():
    block = tiny()["optim"]
    none = dict(name="none")
    assert all(block[f"{key}_schedule"] == none for key in ("decay", "b1", "b2"))
    assert block["plateau"]["factor"] == block["layer_decay"] == 1.0


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            {"rule__name": "sgd", "b1_schedule__name": "linear"},
            r"^optim\.b1_schedule: optim\.rule\.name='sgd' has no b1\. It has \['mom",
        ),
        (
            {"rule__name": "sgd", "b2_schedule__name": "linear"},
            r"^optim\.b2_schedule: optim\.rule\.name='sgd' has no b2\.",
        ),
        (
            {"b1_schedule__name": "noam"},
            r"^optim\.b1_schedule\.name='noam' is not known\.",
        ),
        (
            {"b1_schedule__name": "linear", "b1_schedule__peak": 0.5},
            r"^optim\.b1_schedule\.peak='0\.5' is not known",
        ),
        ({"plateau__factor": 0.0}, r"^optim\.plateau\.factor=0\.0 must lie in \(0, 1"),
        ({"plateau__factr": 0.5}, r"factr='0\.5' .*mean 'optim\.plateau\.factor'"),
        ({"plateau__every_steps": 0}, r"plateau\.every_steps=0 must lie in \[1, inf"),
        ({"layer_decay": 1.5}, r"^optim\.layer_decay=1\.5 must lie in \(0, 1\]"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(typed, message):
    if "b1_schedule__name" in typed or "b2_schedule__name" in typed:
        key = next(key for key in typed if key.endswith("schedule__name"))
        if typed[key] != "noam":
            typed = typed | {key.replace("name", "warmup_steps"): 2}
    with pytest.raises(ValueError, match=message):
        config_of(**typed)


def test_a_schedule_of_another_number_longer_than_the_run_is_refused():
    typed = dict(b2_schedule__name="linear", b2_schedule__warmup_steps=21)
    config, _ = resolve(config_of(**typed), {}, SCHEMA)
    with pytest.raises(ValueError, match=r"^optim\.b2_schedule: warmup_steps=21 does"):
        check(config)
