"""optim/schedules/: what holds for every schedule, and what is refused of them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.numbers import join, split
from core.registry import Block, check
from core.types import Number
from optim import SCHEDULES
from tests.scheduling import NUM_STEPS, OTHER, compiled, options_of, rates

GIVEN = ("num_steps",)
WORDS = {
    "wsd": [dict(shape=shape) for shape in ("linear", "cosine", "exponential")],
    "piecewise": [dict(shape="cosine")],
    "one_cycle": [dict(shape="linear"), dict(three_phases=True)],
    "cyclic": [dict(smooth=True)],
}
WARM = sorted(
    name
    for name, entry in SCHEDULES.items()
    if {"peak", "warmup_steps"} <= set(entry.ranges)
)
FALLING = sorted({*WARM} - {"cosine_restarts"})


@pytest.fixture(params=sorted(SCHEDULES))
def name(request):
    return request.param


def test_every_number_of_a_schedule_has_a_range(name):
    parameters = inspect.signature(SCHEDULES[name].build).parameters.items()
    kinds = (Number, int, tuple[Number, ...])
    numbers = {k for k, p in parameters if p.annotation in kinds}
    assert numbers - set(GIVEN) == set(SCHEDULES[name].ranges)


@pytest.mark.parametrize(
    ("name", "words"),
    [(name, words) for name in SCHEDULES for words in [{}, *WORDS.get(name, [])]],
)
def test_a_schedule_is_one_program_for_all_its_numbers(name, words):
    first, second = options_of(name), options_of(name, OTHER)
    lengths = NUM_STEPS, NUM_STEPS - 3
    program = jax.jit(lambda options, length: rates(name, options | words, length))
    one_by_one = [program(first, lengths[0]), program(second, lengths[1])]
    assert program._cache_size() == 1
    static = rates(name, first | words, lengths[0])
    np.testing.assert_allclose(one_by_one[0], static, rtol=2e-6)
    both = jax.tree.map(lambda *x: jnp.array(x), first, second)
    mapped = jax.vmap(program)(both, jnp.array(lengths))
    np.testing.assert_allclose(mapped, jnp.stack(one_by_one), rtol=1e-6)


def test_every_number_of_a_schedule_matters(name):
    words = options_of(name)
    before = compiled(name)(words)
    for key in words:
        after = compiled(name)(words | {key: OTHER[key]})
        assert np.abs(after - before)[: NUM_STEPS + 1].max() > 1e-3, key


def test_counts_and_tuples_of_a_schedule_are_inputs_of_the_program(name):
    config = {"s": dict(options_of(name), name=name)}
    values = split(config, {"s": Block(SCHEDULES, GIVEN)}, whole=("s",))
    assert values.keys() == {f"s.{key}" for key in SCHEDULES[name].ranges}
    program = jax.jit(lambda values: rates(name, bare(join(config, values)["s"])))
    found = program(values)
    np.testing.assert_allclose(found, rates(name, bare(config["s"])), rtol=2e-6)


def bare(block):
    return {key: value for key, value in block.items() if key != "name"}


@pytest.mark.parametrize("name", WARM)
@pytest.mark.parametrize("warmup_steps", [0, 1, 4, 15, 20])
@pytest.mark.parametrize("final_share", [0.0, 0.25, 1.0])
def test_no_step_of_a_run_has_rate_zero_or_above_the_peak(
    name, warmup_steps, final_share
):
    for decay_steps in (0, 1, min(5, NUM_STEPS - warmup_steps)):
        ends = dict(decay_steps=decay_steps, final_share=final_share)
        ends |= dict(low_share=final_share)
        options = options_of(name, warmup_steps=warmup_steps, **ends)
        if not all(holds(name, key, value) for key, value in options.items()):
            continue
        found = np.asarray(compiled(name)(options))
        assert np.all(found[:NUM_STEPS] > 0)
        assert np.all(found >= 0)
        assert np.all(found <= options["peak"])
        rise = found[: max(warmup_steps, 1)]
        steps = np.arange(1, len(rise) + 1)
        if name != "multistep":  # whose boundaries may lie in a long warmup
            np.testing.assert_allclose(
                rise[: NUM_STEPS // 4], 2.0 * steps[:5] / len(rise), rtol=1e-6
            )
        if name in FALLING:
            assert np.all(np.diff(found[max(warmup_steps, 1) :]) <= 0)


def holds(name, key, value):
    if isinstance(value, tuple):
        return all(SCHEDULES[name].ranges[key].holds(x) for x in value)
    return SCHEDULES[name].ranges[key].holds(value)


@pytest.mark.parametrize("changed", [{}, dict(warmup_steps=0), dict(warmup_steps=20)])
def test_the_first_step_has_a_rate(name, changed):
    found = compiled(name)(options_of(name, **changed))
    assert found[0] > 0
    assert np.all(np.isfinite(found))


LONG = {
    "linear": (dict(warmup_steps=21), r"^warmup_steps=21 does"),
    "wsd": (
        dict(warmup_steps=16, decay_steps=5),
        r"^warmup_steps=16 and decay_steps=5 do",
    ),
    "step": (dict(every_steps=17), r"^warmup_steps=4 and every_steps=17 do"),
    "piecewise": (dict(warmup_steps=21), r"^warmup_steps=21 does"),
    "cosine_restarts": (dict(period_steps=17), r"and period_steps=17 do"),
    "cyclic": (dict(rise_steps=16), r"^rise_steps=16 and fall_steps=5 do"),
}


@pytest.mark.parametrize("name", LONG)
def test_phases_longer_than_the_run_are_refused(name):
    changed, message = LONG[name]
    SCHEDULES[name].check(**options_of(name), num_steps=20)
    SCHEDULES[name].check(**options_of(name, **changed))
    with pytest.raises(ValueError, match=message + r" not fit in num_steps=20\.$"):
        SCHEDULES[name].check(**options_of(name, **changed), num_steps=20)


def test_every_schedule_with_a_warmup_refuses_one_longer_than_the_run(name):
    if "warmup_steps" in SCHEDULES[name].ranges:
        options = options_of(name, warmup_steps=21)
        with pytest.raises(ValueError, match=r"warmup_steps=21 .*not fit in num_steps"):
            SCHEDULES[name].check(**options, num_steps=20)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        (
            "wsd",
            dict(shape="exponential", final_share=0.0),
            r"^final_share=0\.0 must be more than 0 for shape='exponential'\.$",
        ),
        (
            "piecewise",
            dict(level_shares=(1.0,)),
            r"^boundary_shares=\(0\.3, 0\.7\) and level_shares=\(1\.0,\) must be as",
        ),
        (
            "piecewise",
            dict(boundary_shares=(0.7, 0.3)),
            r"^boundary_shares=\(0\.7, 0\.3\) must rise\.$",
        ),
        (
            "one_cycle",
            dict(three_phases=True, rise_share=0.6),
            r"^rise_share=0\.6 must be at most 0\.5 for three_phases=True\.$",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(name, changed, message):
    with pytest.raises(ValueError, match=message):
        SCHEDULES[name].check(**options_of(name) | changed, num_steps=20)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peak", 0.0, r"^optim\.schedule\.peak=0\.0 must lie in \(0, inf\)\.$"),
        ("peak", float("inf"), r"peak=inf must lie in \(0, inf\)\.$"),
        ("peak", 1, r"peak=1 must be a float such as 1\.0"),
        ("warmup_steps", -1, r"warmup_steps=-1 must lie in \[0, 2147483647\]\.$"),
        ("warmup_steps", 1.0, r"warmup_steps=1\.0 must be an integer such as 1\.$"),
        ("final_share", 1.5, r"final_share=1\.5 must lie in \[0, 1\]\.$"),
        ("warmup", 3, r"warmup=3 is not known\. Did you mean 'warmup_steps'\?"),
        ("num_steps", 9, r"num_steps=9 is not known\."),
        ("shape", "sqrt", r"shape='sqrt' is not known\. Did you mean '1-sqrt'\?"),
        ("name", "wsdd", r"name='wsdd' is not known\. Did you mean 'wsd'\?"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(key, value, message):
    config = dict(name="wsd", **options_of("wsd")) | {key: value}
    with pytest.raises(ValueError, match=message):
        check(config, Block(SCHEDULES, GIVEN), "optim.schedule")


@pytest.mark.parametrize("shares", [(0.5, 1.5), 0.5, (1,)])
def test_a_wrong_tuple_is_refused_in_one_line(shares):
    config = dict(name="multistep", **options_of("multistep", boundary_shares=shares))
    with pytest.raises(ValueError, match=r"^optim\.schedule\.boundary_shares=.*must"):
        check(config, Block(SCHEDULES, GIVEN), "optim.schedule")


def test_a_missing_option_is_named():
    with pytest.raises(ValueError, match=r"optim\.schedule\.warmup_steps has no value"):
        check(dict(name="wsd", peak=1.0), Block(SCHEDULES, GIVEN), "optim.schedule")
