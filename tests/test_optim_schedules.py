"""optim/schedules.py: every schedule, at every step of a short run and past its end."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.registry import Block, build, check
from core.types import Number
from optim import SCHEDULES

SHAPE = dict(peak=2.0, warmup_steps=4, decay_steps=5, final_share=0.25)
NUM_STEPS = 20
GIVEN = ("num_steps",)


@pytest.fixture(params=sorted(SCHEDULES))
def name(request):
    return request.param


def options_of(name, **changed):
    return {key: (SHAPE | changed)[key] for key in SCHEDULES[name].ranges}


def rates(name, options, num_steps=NUM_STEPS, until=NUM_STEPS):
    """The rates of steps 0 to `until`, which is one more than the run has."""
    rate = build(SCHEDULES, dict(options, name=name), num_steps=num_steps)
    return jax.vmap(rate)(jnp.arange(until + 1))


def test_every_number_of_a_schedule_has_a_range(name):
    parameters = inspect.signature(SCHEDULES[name].build).parameters.items()
    numbers = {k for k, p in parameters if p.annotation in (Number, int)}
    assert numbers - set(GIVEN) == set(SCHEDULES[name].ranges)


def test_a_schedule_is_one_program_for_all_its_numbers(name):
    first = options_of(name)
    second = options_of(
        name, peak=0.5, warmup_steps=2, decay_steps=9, final_share=0.125
    )
    lengths = NUM_STEPS, NUM_STEPS - 3
    program = jax.jit(lambda options, length: rates(name, options, length))
    for options, length in zip((first, second), lengths, strict=True):
        static = rates(name, options, length)
        np.testing.assert_allclose(program(options, length), static, rtol=1e-6)
    assert program._cache_size() == 1
    both = jax.tree.map(lambda *x: jnp.array(x), first, second)
    mapped = jax.vmap(program)(both, jnp.array(lengths))
    one_by_one = [program(first, lengths[0]), program(second, lengths[1])]
    np.testing.assert_allclose(mapped, jnp.stack(one_by_one), rtol=1e-6)


@pytest.mark.parametrize("warmup_steps", [0, 1, 4, 15, 20])
@pytest.mark.parametrize("decay_steps", [0, 1, 5])
@pytest.mark.parametrize("final_share", [0.0, 0.25, 1.0])
def test_no_step_of_a_run_has_rate_zero_or_above_the_peak(
    name, warmup_steps, decay_steps, final_share
):
    decay_steps = min(decay_steps, NUM_STEPS - warmup_steps)
    shape = dict(decay_steps=decay_steps, final_share=final_share)
    options = options_of(name, warmup_steps=warmup_steps, **shape)
    found = compiled(name)(options)
    assert jnp.all(found[:NUM_STEPS] > 0)
    assert jnp.all(found >= 0)
    assert jnp.all(found <= options["peak"])
    rise = found[: max(warmup_steps, 1)]
    steps = np.arange(1, len(rise) + 1)
    np.testing.assert_allclose(rise, 2.0 * steps / len(rise), rtol=1e-6)
    assert jnp.all(jnp.diff(found[max(warmup_steps, 1) :]) <= 0)


@functools.cache
def compiled(name):
    return jax.jit(lambda options: rates(name, options, until=3 * NUM_STEPS))


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("constant", 2.0),
        ("linear", 0.25 * 2.0),
        ("cosine", 0.25 * 2.0),
        ("inverse_sqrt", 2.0 * (4 / 21) ** 0.5),
        ("wsd", 0.0),
    ],
)
def test_a_schedule_ends_where_it_should(name, last):
    found = compiled(name)(options_of(name))
    np.testing.assert_allclose(found[NUM_STEPS], last, rtol=1e-6)
    if name != "inverse_sqrt":
        np.testing.assert_allclose(found[NUM_STEPS:], last, rtol=1e-6)


# A run of 8 steps with a peak of 1, a warmup of 2 and an end at a fifth, by hand.
TABLES = {
    "constant": [0.5, 1, 1, 1, 1, 1, 1, 1, 1],
    "linear": [0.5, 1, 1, 13 / 15, 11 / 15, 0.6, 7 / 15, 1 / 3, 0.2],
    "cosine": [0.5, 1, 1, 0.9464102, 0.8, 0.6, 0.4, 0.2535898, 0.2],
    "inverse_sqrt": [
        0.5,
        1,
        0.8164966,
        0.7071068,
        0.6324555,
        0.5773503,
        0.5345225,
        0.5,
        0.4714045,
    ],
    "wsd": [0.5, 1, 1, 1, 1, 0.5, 0.2928932, 0.1339746, 0],
}


def test_a_schedule_is_its_table(name):
    shape = dict(peak=1.0, warmup_steps=2, decay_steps=4, final_share=0.2)
    found = rates(name, options_of(name, **shape), num_steps=8, until=8)
    np.testing.assert_allclose(found, TABLES[name], rtol=1e-6, atol=1e-7)


def test_inverse_sqrt_is_the_formula_of_vaswani_et_al():
    width, warmup_steps, steps = 512, 4000, np.array([1, 100, 4000, 4001, 99_999])
    formula = width**-0.5 * np.minimum(steps**-0.5, steps * warmup_steps**-1.5)
    peak = (width * warmup_steps) ** -0.5
    config = dict(name="inverse_sqrt", peak=peak, warmup_steps=warmup_steps)
    rate = build(SCHEDULES, config, num_steps=100_000)
    found = jax.vmap(rate)(jnp.array(steps - 1))
    np.testing.assert_allclose(found, formula, rtol=1e-6)


def test_a_warmup_longer_than_the_run_is_refused(name):
    options = options_of(name, warmup_steps=20, decay_steps=0)
    SCHEDULES[name].check(**options, num_steps=20)
    SCHEDULES[name].check(**options)
    options["warmup_steps"] = 21
    with pytest.raises(ValueError, match=r"warmup_steps=21 .*not fit in num_steps=20"):
        SCHEDULES[name].check(**options, num_steps=20)


def test_a_warmup_and_a_decay_longer_than_the_run_are_refused():
    options = dict(peak=1.0, warmup_steps=16, decay_steps=4)
    SCHEDULES["wsd"].check(**options, num_steps=20)
    options["warmup_steps"] = 17
    message = r"^warmup_steps=17 and decay_steps=4 do not fit in num_steps=20\.$"
    with pytest.raises(ValueError, match=message):
        SCHEDULES["wsd"].check(**options, num_steps=20)


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
        ("name", "cosin", r"name='cosin' is not known\. Did you mean 'cosine'\?"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(key, value, message):
    config = dict(name="cosine", **options_of("cosine")) | {key: value}
    with pytest.raises(ValueError, match=message):
        check(config, Block(SCHEDULES, GIVEN), "optim.schedule")


def test_a_missing_option_is_named():
    with pytest.raises(ValueError, match=r"optim\.schedule\.warmup_steps has no value"):
        check(dict(name="wsd", peak=1.0), Block(SCHEDULES, GIVEN), "optim.schedule")
