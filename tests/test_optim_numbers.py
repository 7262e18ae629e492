"""optim/: numbers that change with the step, and rates that differ by depth or loss."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.mean import Mean
from core.numbers import join, split
from core.overrides import resolve
from optim import OPTIM, RULES
from optim.depth import depths_of
from tests.runs import tiny
from train.assemble import check
from train.guard import Guard
from train.schema import OF_STEP, PROGRAM, SCHEMA
from train.step import make_step, start

GOLDEN = pathlib.Path(__file__).parent / "golden"
NUM_STEPS = 60
CONSTANT = dict(name="constant", peak=0.5, warmup_steps=0)
ADAM = dict(name="adam", b1=0.9, b2=0.98, eps=1e-6)
POINTS = dict(boundary_shares=(0.0, 0.5), level_shares=(0.5, 1.0), warmup_steps=0)
RISING = dict(name="piecewise", **POINTS)
FALLING = dict(name="cosine", warmup_steps=3, final_share=0.1)


def small():
    return {"in": jnp.array([3.0, -0.5, 0.25]), "bias": jnp.array([-4.0])}


def scanned():
    return {
        "embed": jnp.ones((5, 4)),
        "layers": {"mlp": {"in": jnp.full((3, 4, 2), 2.0)}},
        "norm": {"scale": jnp.ones(4)},
    }


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


def assert_close(tree, other, **tolerance):
    close = functools.partial(np.testing.assert_allclose, **tolerance)
    jax.tree.map(close, tree, other)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "schedules.npz") as file:
        return dict(file)


def test_what_is_off_leaves_no_trace():
    none = dict(name="none")
    off = dict(decay_schedule=none, b1_schedule=none, b2_schedule=none)
    off |= dict(plateau=dict(factor=1.0, patience=3), layer_decay=1.0)

    def program(options):
        tx = chain(decay=0.1, **options)
        state = tx.init(scanned())
        assert list(state) == ["rule", "decay", "rate"]
        return tx.update(scanned(), state, scanned(), step=0)

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
    params = scanned()
    extra = dict(value_fn=lambda p: 0.0, grad_fn=lambda p: p, key=jax.random.key(0))
    extra |= dict(sampled_grad_fn=lambda p, key: (p, jnp.float32(1)))

    def update(tx):
        return tx.update(params, tx.init(params), params, step=jnp.int32(3), **extra)

    shapes = [jax.eval_shape(lambda t=t: update(t)) for t in (plain, tx)]
    describe = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert describe(shapes[0]) == describe(shapes[1])


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
        assert_close(found, static, rtol=1e-5)
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


def test_depths_go_down_through_the_decoder_and_then_the_encoder():
    def layers(count):
        return {"layers": {"mlp": {"in": np.zeros((count, 4, 8))}}}

    norm, table = {"scale": np.zeros(4)}, np.zeros((5, 4))
    found = depths_of(
        {
            "embedding": {"embed": table, "unembed": table, "readout_bias": table[0]},
            "encoder_entrance": {"place": table, "norm": norm},
            "encoder": layers(2) | {"norm": norm, "distance": table},
            "decoder": layers(3) | {"norm": norm},
            "transform": {"head": table},
        }
    )
    assert found["embedding"] == {"embed": 6, "unembed": 0, "readout_bias": 0}
    assert found["encoder_entrance"] == {"place": 6, "norm": {"scale": 6}}
    np.testing.assert_array_equal(found["encoder"]["layers"]["mlp"]["in"], [5, 4])
    np.testing.assert_array_equal(found["decoder"]["layers"]["mlp"]["in"], [3, 2, 1])
    assert found["encoder"]["norm"] == {"scale": 3}
    assert found["encoder"]["distance"] == 6
    assert found["decoder"]["norm"] == {"scale": 0}
    assert found["transform"] == {"head": 0}


def test_every_parameter_of_a_model_has_its_depth():
    wanted = {"/embedding": 3, "/encoder/layers": [2], "/encoder/norm": 1}
    wanted |= {"/decoder/layers": [1], "/decoder/norm": 0}
    tree, expected = {}, []
    for line in (GOLDEN / "multi30k_tiny_parameters.txt").read_text().splitlines():
        name, shape = line.split()[0], line[line.index("(") + 1 : line.index(")")]
        sizes = [int(size) for size in shape.split(",") if size.strip()]
        part = tree
        *parents, leaf = name.strip("/").split("/")
        for parent in parents:
            part = part.setdefault(parent, {})
        part[leaf] = np.zeros(sizes)
        expected += [value for key, value in wanted.items() if name.startswith(key)]
    found = jax.tree.leaves(depths_of(tree))
    assert len(found) == len(expected) == 31
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_each_layer_has_a_rate_of_its_own_and_its_decay_with_it(kind):
    params, grads = scanned(), gradients(scanned(), 0)

    def first(share):
        tx = chain(decay=0.3, layer_decay=share)
        return tx.update(grads, tx.init(params), params, step=0)[0]

    plain = jax.jit(lambda: first(1.0))()
    found = (
        jax.jit(first)(0.5) if kind is jnp.float32 else jax.jit(lambda: first(0.5))()
    )
    np.testing.assert_allclose(found["embed"], plain["embed"] / 16, rtol=1e-6)
    layers = plain["layers"]["mlp"]["in"] / np.array([8, 4, 2])[:, None, None]
    np.testing.assert_allclose(found["layers"]["mlp"]["in"], layers, rtol=1e-6)
    np.testing.assert_allclose(found["norm"]["scale"], plain["norm"]["scale"])


PLATEAUS = {
    "plateau": dict(factor=0.3, patience=2, cooldown=3, threshold=0.01, min_share=0.04),
    "plateau_impatient": dict(factor=0.8, patience=0, cooldown=0, threshold=0.0),
}


def rates_of(tx, values):
    """The rate of each step: the update of a gradient of ones."""
    ones = {"in": jnp.ones(1)}

    def step(state, now):
        number, value = now
        updates, state = tx.update(ones, state, ones, step=number, value=value)
        return state, -updates["in"][0]

    steps = jnp.arange(len(values)), jnp.asarray(values)
    return jax.jit(lambda: jax.lax.scan(step, tx.init(ones), steps)[1])()


@pytest.mark.parametrize("case", PLATEAUS)
def test_on_a_plateau_the_rate_is_that_of_pytorch(golden, case):
    plateau = dict(PLATEAUS[case], every_steps=1)
    tx = chain(dict(name="gradient_descent"), plateau=plateau)
    found = rates_of(tx, golden["plateau/values"])
    np.testing.assert_allclose(found, golden[case], rtol=0, atol=1e-6)
    assert len(np.unique(golden[case])) >= 4


def test_a_slow_fall_is_measured_from_the_last_improvement():
    values = 0.995 ** np.arange(30)  # in three steps more than the threshold
    plateau = dict(factor=0.5, patience=2, threshold=0.01, every_steps=1)
    found = rates_of(chain(dict(name="gradient_descent"), plateau=plateau), values)
    np.testing.assert_array_equal(found, 0.5)


def test_a_plateau_is_of_means_over_so_many_steps(golden):
    means = golden["plateau/values"]
    noise = np.array([0.5, -1.5, 1.25, -0.25], np.float32)
    values = (means[:, None] + noise).reshape(-1)
    plateau = dict(PLATEAUS["plateau"], every_steps=4)
    found = rates_of(chain(dict(name="gradient_descent"), plateau=plateau), values)
    wanted = np.repeat(golden["plateau"], 4)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_a_plateau_is_that_of_optax_one_step_later_and_one_more_patient(golden):
    values = golden["plateau/values"]
    options = dict(factor=0.3, cooldown=3)
    theirs = optax.contrib.reduce_on_plateau(patience=3, rtol=0.01, **options)
    theirs = optax.chain(theirs, optax.scale(-0.5))
    plateau = dict(options, patience=2, threshold=0.01, every_steps=1)
    tx = chain(dict(name="gradient_descent"), plateau=plateau)
    one_later = rates_of(theirs, values)[:-1]
    np.testing.assert_allclose(rates_of(tx, values)[1:], one_later, rtol=1e-6)


def test_a_plateau_takes_traced_numbers_and_reaches_what_a_rule_is_told():
    def update(updates, state, params=None, **extra):
        del updates, params
        return {"in": extra["rate"][None]}, state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)

    @jax.jit
    def run(numbers):
        plateau = dict(numbers, patience=0, every_steps=1)
        low = optim.PLATEAU.build(tx=tx, **plateau)
        state = low.init({"in": jnp.ones(1)})
        told = []
        for value in (1.0, 1.0, 1.0):
            updates, state = low.update({}, state, rate=0.5, value=value)
            told.append(updates["in"][0])
        return jnp.stack(told), optim.rate_at(0.5, state)

    told, now = run(dict(factor=0.1, threshold=1e-4, min_share=0.0))
    np.testing.assert_allclose(told, [0.5, 0.5, 0.05], rtol=1e-6)
    np.testing.assert_allclose(now, 0.005, rtol=1e-6)
    assert optim.rate_at(0.5, ()) == 0.5


class Stuck:
    """A task whose objective stays where it is, but for the batches that break it."""

    def init(self, key):
        del key
        return {"in": jnp.ones((2, 2))}

    def score(self, params, batch, key, *, train):
        del key, train
        still = jnp.sum(params["in"]) * 0.0 + 1.0
        loss = Mean.single(still * jnp.mean(batch["x_B"]))
        return {"objective": loss, "loss": loss}


def test_the_step_tells_the_rate_it_took_and_a_skipped_one_is_not_seen():
    plateau = dict(factor=0.5, patience=0, every_steps=1)
    tx, rate = optim.make(
        rule=ADAM, schedule=CONSTANT, plateau=plateau, num_steps=NUM_STEPS
    )
    task, key = Stuck(), jax.random.key(0)
    state = start(task, tx, key)
    step = jax.jit(make_step(task, tx, rate=rate, judge=Guard()))
    rates = []
    for bad in (1.0, 1.0, jnp.nan, 1.0, 1.0):
        state, scores = step(state, {"x_B": jnp.full(4, bad)}, key)
        rates.append(float(scores["rate"].value))
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125]
    assert state.guard.num_skipped == 1


def test_the_links_say_what_the_docstring_of_the_chain_does():
    tx = chain(decay=0.1, layer_decay=0.9)
    assert list(tx.init(scanned())) == ["rule", "decay", "layer_decay", "rate"]
    assert "layer_decay" in OPTIM.ranges
