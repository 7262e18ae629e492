"""optim/: the chain that `make` builds, its links, and what it refuses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from core.axes import AXES
from core.numbers import join, split
from core.registry import Block, check
from optim import OPTIM, RULES, SCHEDULES, links

CONSTANT = dict(name="constant", peak=0.1, warmup_steps=0)
PLAIN = dict(name="gradient_descent")
ON = dict(clip_norm=1.0, l2=0.1, l1=0.2, decay=0.3)
BLOCKS = {
    "optim": Block(OPTIM, ("num_steps",)),
    "optim.rule": Block(RULES),
    "optim.schedule": Block(SCHEDULES, ("num_steps",)),
}


def chain(rule=PLAIN, schedule=CONSTANT, **options):
    return optim.make(rule=rule, schedule=schedule, num_steps=20, **options)[0]


def small():
    return {"in": jnp.array([3.0, -0.5, 0.0]), "bias": jnp.array([-4.0])}


def named():
    """As `small`, with the paths of a model, which say what the axes are."""
    return {"mlp": {"in": small()["in"][None]}, "norm": {"bias": small()["bias"]}}


def extra(step=0):
    """What a rule may ask for, where the objective is flat."""

    def flat(params):
        return jax.tree.map(jnp.zeros_like, params)

    return dict(
        step=step,
        key=jax.random.key(0),
        value=jnp.float32(0.0),
        value_fn=lambda params: jnp.float32(0.0),
        grad_fn=flat,
        sampled_grad_fn=lambda params, key: (flat(params), jnp.float32(1.0)),
    )


def test_all_links_together_are_the_update_that_the_docstring_says():
    w, g = {"in": 2.0, "bias": -3.0}, {"in": -30.0, "bias": 40.0}
    one = {name: jnp.array([x]) for name, x in w.items()}
    tx = chain(**ON)
    updates, _ = tx.update(
        {name: jnp.array([x]) for name, x in g.items()}, tx.init(one), one, step=0
    )
    # clip: -0.6, 0.8; then on `in` alone l2 0.1 * 2, l1 0.2 * 1, decay 0.3 * 2.
    np.testing.assert_allclose(updates["in"], -0.1 * (-0.6 + 0.2 + 0.2 + 0.6))
    np.testing.assert_allclose(updates["bias"], -0.1 * 0.8, rtol=1e-6)
    assert list(tx.init(one)) == ["clip", "l2", "l1", "rule", "decay", "rate"]


@pytest.mark.parametrize(
    ("key", "link", "trace"),
    [
        ("clip_norm", "clip", "sqrt"),
        ("l2", "l2", "mul"),
        ("l1", "l1", "sign"),
        ("decay", "decay", "mul"),
    ],
)
def test_a_link_that_is_off_leaves_no_trace_and_a_traced_one_always_does(
    key, link, trace
):
    def program(number):
        tx = chain(**{key: number})
        state = tx.init(small())
        assert (link in state) == (number is not off)
        return tx.update(small(), state, small(), step=0)[0]

    off = OPTIM.ranges[key].neutral
    bare = str(jax.make_jaxpr(lambda: program(off))())
    assert str(jax.make_jaxpr(program)(0.5)).count(trace) > bare.count(trace)
    # What is left is the rate's: its rise, and one product for each leaf.
    assert bare.count("mul") <= 1 + len(small())
    assert not any(word in bare for word in ("sqrt", "sign", "add_any", "select"))


def test_traced_neutral_numbers_change_nothing():
    def program(numbers):
        tx, params = chain(**numbers), named()
        more = extra() | dict(grad_fn=lambda params: named())
        return tx.update(params, tx.init(params), params, **more)[0]

    neutral = {key: range.neutral for key, range in OPTIM.ranges.items()}
    jax.tree.map(
        np.testing.assert_array_equal, jax.jit(program)(neutral), program(neutral)
    )


def test_momentum_that_is_off_keeps_no_state():
    still = chain(dict(name="sgd", momentum=0.0)).init(small())
    assert not jax.tree.leaves(still)
    assert jax.tree.leaves(chain(dict(name="sgd", momentum=0.5)).init(small()))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_without_gradient_kernels_shrink_by_rate_times_decay(rule):
    schedule = dict(name="cosine", peak=0.5, warmup_steps=3)
    tx, rate = optim.make(
        rule=dict(name=rule), decay=0.3, schedule=schedule, num_steps=20
    )
    zero = jax.tree.map(jnp.zeros_like, named())

    def step(carry, number):
        params, state = carry
        updates, state = tx.update(zero, state, params, **extra(number))
        return (jax.tree.map(jnp.add, params, updates), state), rate(number)

    carry = named(), tx.init(named())
    run = jax.jit(lambda: jax.lax.scan(step, carry, jnp.arange(20)))
    (end, _), rates = run()
    product = np.prod(1 - 0.3 * np.asarray(rates, np.float64))
    assert 0.05 < product < 0.5
    shrunk = small()["in"][None] * product
    np.testing.assert_allclose(end["mlp"]["in"], shrunk, rtol=1e-6)
    np.testing.assert_array_equal(end["norm"]["bias"], small()["bias"])


def test_the_rate_is_that_of_the_global_step_and_not_of_a_counter():
    schedule = dict(name="linear", peak=1.0, warmup_steps=0)
    tx, rate = optim.make(rule=PLAIN, schedule=schedule, num_steps=20)
    state = tx.init(small())
    for step in (7, 7, 3):
        updates, state = tx.update(small(), state, small(), step=step)
        np.testing.assert_allclose(updates["bias"], -rate(step) * small()["bias"])
    assert not jax.tree.leaves(state)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_link_lets_extra_arguments_pass(rule):
    tx = chain(dict(name=rule), **ON)

    @jax.jit
    def updates(params):
        state = tx.init(params)
        more = tx.update(params, state, params, **extra(), another=None)[0]
        return more, tx.update(params, state, params, **extra())[0]

    jax.tree.map(np.testing.assert_array_equal, *updates(named()))


def clipped(grads, max_norm):
    tx = links.clip(max_norm)
    return jax.jit(lambda g: tx.update(g, tx.init(g))[0])(grads)


def test_a_gradient_inside_the_ball_passes_to_the_bit():
    grads = {"a": jax.random.normal(jax.random.key(1), (7,)), "b": jnp.array([0.1])}
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values()))
    for max_norm in (norm * 1.0001, 1e30, jnp.inf, jnp.float32(jnp.inf)):
        jax.tree.map(np.testing.assert_array_equal, clipped(grads, max_norm), grads)


@pytest.mark.parametrize("size", [1e-15, 1.0, 1e18])
def test_a_gradient_outside_the_ball_is_put_on_it(size):
    grads = {"a": jnp.array([3.0, 0.0]) * size, "b": jnp.array([-4.0]) * size}
    max_norm = min(size, 1.0) / 2
    found = clipped(grads, max_norm)
    np.testing.assert_allclose(found["a"], [0.6 * max_norm, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [-0.8 * max_norm], rtol=1e-6)


def test_a_gradient_of_zeros_stays_and_one_without_a_norm_is_not_hidden():
    zero = {"a": jnp.zeros(3), "b": jnp.zeros((2, 0))}
    jax.tree.map(np.testing.assert_array_equal, clipped(zero, 1.0), zero)
    for bad in (jnp.nan, jnp.inf, 1e25):
        for max_norm in (1.0, jnp.float32(jnp.inf)):
            found = clipped({"a": jnp.array([1.0, bad]), "b": jnp.ones(1)}, max_norm)
            assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(found))


def test_the_norm_of_bfloat16_gradients_is_summed_in_float32():
    grads = {"a": jnp.ones(3000, jnp.bfloat16), "b": jnp.ones(1)}
    found = clipped(grads, jnp.float32(1.0))
    assert found["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(found["b"], 3001**-0.5, rtol=1e-5)


def test_decay_reaches_kernels_and_no_other_leaf():
    kernels = ["query", "key", "value", "out", "in", "gate"]
    kernels += ["router", "head", "unembed"]
    others = ["scale", "bias", "query_bias", "embed", "type_embed", "place", "distance"]
    found = links.DECAYED({"block": dict.fromkeys(kernels + others, 0)})["block"]
    assert [name for name in found if found[name]] == sorted(kernels)
    roles = "".join(AXES)
    assert all(re.sub("query_|type_|un", "", role) in roles for role in kernels)


@pytest.mark.parametrize("key", ["l2", "l1", "decay"])
def test_a_leaf_without_a_role_is_refused(key):
    with pytest.raises(ValueError, match=r"^/block/wide matches no rule; it must"):
        chain(**{key: 0.1}).init({"block": {"wide": jnp.ones(2)}})


def test_changing_floats_does_not_recompile_and_switching_one_on_does():
    rule = dict(name="adam", b1=0.9, b2=0.99)
    config = dict(clip_norm=1.0, decay=0.1, l2=0.0, rule=rule, schedule=CONSTANT)

    def run(values, static):
        options = join({"optim": static}, values)["optim"]
        tx = chain(**options)
        return tx.update(small(), tx.init(small()), small(), step=3)[0]

    ends = []
    program = jax.jit(lambda values: run(values, config))
    for peak, b1, decay, warmup in [(0.1, 0.9, 0.1, 0), (0.2, 0.8, 0.3, 9)]:
        schedule = CONSTANT | dict(peak=peak, warmup_steps=warmup)
        now = config | dict(decay=decay, rule=rule | dict(b1=b1), schedule=schedule)
        values = split({"optim": now}, BLOCKS, whole=("optim.schedule",))
        ends.append(program(values))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
            ends[-1],
            run({}, now),
        )
    assert program._cache_size() == 1
    assert set(values) >= {"optim.clip_norm", "optim.decay", "optim.rule.b2"}
    assert "optim.l2" not in values
    assert jnp.any(ends[0]["in"] != ends[1]["in"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("clip_norm", 0.0, r"^optim\.clip_norm=0\.0 must lie in \(0, inf\]\.$"),
        ("clip_norm", 1, r"^optim\.clip_norm=1 must be a float such as 1\.0"),
        ("clip_norm", float("nan"), r"clip_norm=nan must be a float"),
        ("l2", -0.1, r"^optim\.l2=-0\.1 must lie in \[0, inf\)\.$"),
        ("l1", float("inf"), r"^optim\.l1=inf must lie in \[0, inf\)\.$"),
        ("decay", -1.0, r"^optim\.decay=-1\.0 must lie in \[0, inf\)\.$"),
        ("clip_nrom", 1.0, r"clip_nrom=1\.0 .* Did you mean 'clip_norm'\?"),
        ("num_steps", 9, r"^optim\.num_steps=9 is not known\."),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(key, value, message):
    config = {"rule": PLAIN, "schedule": CONSTANT, key: value}
    with pytest.raises(ValueError, match=message):
        check(config, BLOCKS["optim"], "optim", nested=("rule", "schedule"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (dict(name="adamm"), r"^optim\.rule\.name='adamm' .*mean 'adam'\?"),
        (dict(name="adam", b1=1.0), r"^optim\.rule\.b1=1\.0 must lie in \[0, 1\)\.$"),
        (dict(name="adam", b2=-0.1), r"b2=-0\.1 must lie in \[0, 1\)\.$"),
        (dict(name="adam", eps=0.0), r"eps=0\.0 must lie in \(0, inf\)\.$"),
        (dict(name="sgd", momentum=1.0), r"momentum=1\.0 must lie in \[0, 1\)\.$"),
        (dict(name="sgd", nesterov=1), r"nesterov=1 must be true or false\.$"),
        (dict(name="sgd", b1=0.9), r"b1=0\.9 .*Known: \['momentum', 'name', 'nest"),
        (dict(name="adamw", weight_decay=0.1), r"weight_decay=0\.1 is not known"),
    ],
)
def test_a_wrong_rule_is_refused_in_one_line(rule, message):
    with pytest.raises(ValueError, match=message):
        check(rule, BLOCKS["optim.rule"], "optim.rule")


def test_an_unknown_rule_is_named_when_building_too():
    with pytest.raises(ValueError, match=r"'adamm' is not known\. Did you mean 'adam'"):
        chain(dict(name="adamm"))


def test_the_whole_block_of_a_good_config_passes():
    config = dict(**ON, rule=dict(name="adamw", b1=0.9), schedule=CONSTANT)
    check(config, BLOCKS["optim"], "optim", nested=("rule", "schedule"))
    check(config["rule"], BLOCKS["optim.rule"], "optim.rule")
    check(config["schedule"], BLOCKS["optim.schedule"], "optim.schedule")
