"""optim/schedules/: every schedule against a table by hand, PyTorch and the papers.

What PyTorch's schedulers give is in a golden file; tests/golden/make_schedules.py
renews it and says what is in it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core.registry import build
from optim import SCHEDULES, SHARES
from tests.optimizing import load
from tests.scheduling import NUM_STEPS, compiled, every, options_of, rates


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("constant", 2.0),
        ("linear", 0.25 * 2.0),
        ("polynomial", 0.25 * 2.0),
        ("cosine", 0.25 * 2.0),
        ("exponential", 0.25 * 2.0),
        ("rex", 0.25 * 2.0),
        ("wsd", 0.25 * 2.0),
        ("power_cool", 0.0),
        ("multistep", 0.25 * 2.0),
        ("piecewise", 0.5 * 2.0),
        ("range_test", 2.0),
    ],
)
def test_a_schedule_ends_where_it_should(name, last):
    found = compiled(name)(options_of(name))
    np.testing.assert_allclose(found[NUM_STEPS:], last, rtol=1e-6)


# A run of 8 steps with a peak of 1, a warmup of 2 and an end at a fifth, by hand.
HALF = math.sqrt(0.5)
TABLES = {
    "constant": [0.5, 1, 1, 1, 1, 1, 1, 1, 1],
    "linear": [0.5, 1, 1, 13 / 15, 11 / 15, 0.6, 7 / 15, 1 / 3, 0.2],
    "polynomial": [
        *(0.5, 1, 1),
        *(0.2 + 0.8 * (left / 6) ** 1.5 for left in (5, 4, 3, 2, 1, 0)),
    ],
    "cosine": [0.5, 1, 1, 0.9464102, 0.8, 0.6, 0.4, 0.2535898, 0.2],
    "exponential": [0.5, 1, *(0.2 ** (fall / 6) for fall in range(7))],
    "rex": [
        *(0.5, 1, 1),
        *(0.2 + 0.8 * z / (0.5 + z / 2) for z in (5 / 6, 2 / 3, 1 / 2, 1 / 3, 1 / 6)),
        0.2,
    ],
    "inverse_sqrt": [0.5, 1, *(math.sqrt(2 / (step + 1)) for step in range(2, 9))],
    "noam": [0.5, 1, *(math.sqrt(2 / (step + 1)) for step in range(2, 9))],
    "wsd": [
        *(0.5, 1, 1, 1, 1, 0.6),
        *(0.2 + 0.8 * (1 - HALF), 0.2 + 0.8 * (1 - math.sqrt(0.75)), 0.2),
    ],
    "power_cool": [0.5, 1, 1, 1, 1, 0.75**1.5, 0.5**1.5, 0.25**1.5, 0],
    "step": [0.5, 1, 1, 1, 1, 1, 1, 1, 0.5],
    "multistep": [0.5, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25],
    "piecewise": [0.5, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5],
    "one_cycle": [
        *(0.1, 0.1 + 0.9 * (1 - math.cos(math.pi / 2.2)) / 2),
        *(
            0.2 + 0.8 * (1 + math.cos(math.pi * (step - 2.2) / 4.8)) / 2
            for step in range(3, 8)
        ),
        0.2,
    ],
    "cosine_restarts": [
        *(0.5, 1, 1),
        *(0.2 + 0.4 * (1 + math.cos(math.pi * place / 6)) for place in range(1, 6)),
        0.5,
    ],
    "cyclic": [0.2, 0.2 + 0.8 / 3, 0.2 + 1.6 / 3, 1, 0.84, 0.68, 0.52, 0.36, 0.2],
    "range_test": [*(0.1 ** (1 - step / 7) for step in range(8)), 1],
}
TABLES["one_cycle"].insert(2, 0.1 + 0.9 * (1 - math.cos(math.pi * 2 / 2.2)) / 2)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_schedule_is_its_table(name):
    shape = dict(peak=1.0, warmup_steps=2, decay_steps=4, final_share=0.2)
    shape |= dict(width=8, boundary_shares=(0.25, 0.75))
    if name == "piecewise":
        shape |= dict(boundary_shares=(0.25, 0.875))
    found = rates(name, options_of(name, **shape), num_steps=8, until=8)
    np.testing.assert_allclose(found, TABLES[name], rtol=2e-6, atol=1e-7)


START = dict(peak=0.5, warmup_steps=0)
ODD = dict(peak=0.5, rise_share=0.4, start_share=0.1, final_share=0.02)
LINES = dict(peak=0.5, low_share=0.1, rise_steps=5, fall_steps=9)
TORCH = {
    "linear": ("linear", START | dict(final_share=0.1)),
    "polynomial": ("polynomial", START | dict(power=1.7)),
    "cosine": ("cosine", START | dict(final_share=0.1)),
    "exponential": ("exponential", START | dict(final_share=0.05)),
    "step": ("step", START | dict(every_steps=13, factor=0.3)),
    "multistep": ("multistep", START | dict(boundary_shares=(0.3, 0.7), factor=0.3)),
    "one_cycle": ("one_cycle", dict(peak=0.5)),
    "one_cycle_linear": ("one_cycle", ODD | dict(shape="linear")),
    "one_cycle_three": ("one_cycle", ODD | dict(three_phases=True)),
    "one_cycle_all_down": ("one_cycle", ODD | dict(rise_share=0.0)),
    "restarts": ("cosine_restarts", START | dict(period_steps=7, low_share=0.1)),
    "restarts_longer": ("cosine_restarts", START | dict(period_steps=5, growth=2)),
    "restarts_thrice": ("cosine_restarts", START | dict(period_steps=3, growth=3)),
    "triangular": ("cyclic", LINES),
    "triangular2": ("cyclic", LINES | dict(factor=0.5)),
    "exp_range": ("cyclic", LINES | dict(factor=0.97**14, smooth=True)),
}


@pytest.mark.parametrize("case", TORCH)
def test_a_schedule_is_that_of_pytorch(case):
    name, options = TORCH[case]
    found = rates(name, options, num_steps=60, until=59)
    np.testing.assert_allclose(found, load("schedules")[case], rtol=0, atol=1e-6)


def test_the_cases_tell_one_another_apart():
    ends = [load("schedules")[case] for case in TORCH]
    for i, end in enumerate(ends):
        assert all(np.abs(end - other).max() > 1e-2 for other in ends[:i])


def test_piecewise_is_that_of_optax():
    theirs = optax.piecewise_interpolate_schedule("cosine", 0.5, {20: 0.4, 30: 0.5})
    points = dict(boundary_shares=(0.0, 0.5, 0.75), level_shares=(1.0, 0.4, 0.2))
    ours = build(
        SCHEDULES,
        dict(name="piecewise", shape="cosine", **START, **points),
        num_steps=40,
    )
    steps = jnp.arange(40)
    np.testing.assert_allclose(every(ours, steps), every(theirs, steps), 2e-6)


def test_a_boundary_is_the_step_that_is_meant_however_its_share_is_rounded():
    def before(share):
        options = dict(START, boundary_shares=(share,))
        return jnp.sum(rates("multistep", options, num_steps=100, until=99) == 0.5)

    milestones = np.arange(1, 100)
    found = jax.jit(jax.vmap(before))(jnp.float32(milestones / 100))
    np.testing.assert_array_equal(found, milestones)


def test_a_cooldown_has_the_shapes_of_haegele_et_al():
    """By their formulas, of x = (step - hold) / decay_steps and the final factor f."""
    f, x = 0.1, np.arange(40) / 40
    cosine = f + (1 - f) * (1 + np.cos(np.pi * x)) * 0.5
    linear = f + (1 - f) * (1 - x)
    shapes = {
        "linear": linear,
        "cosine": cosine,
        "mirror_cosine": linear * 2 - cosine,
        "exponential": f**x,
        "square": f + (1 - f) * (1 - x**2),
        "1-sqrt": f + (1 - f) * (1 - np.sqrt(x)),
    }
    phases = dict(peak=1.0, warmup_steps=10, decay_steps=40, final_share=f)
    for shape, wanted in shapes.items():
        found = rates("wsd", phases | dict(shape=shape), num_steps=100, until=99)
        np.testing.assert_allclose(found[60:], wanted, rtol=2e-6)
        np.testing.assert_array_equal(found[9:60], 1.0)


def test_power_cool_is_the_lesser_of_the_peak_and_a_power_of_what_is_left():
    options = dict(peak=0.3, warmup_steps=0, decay_steps=40)
    left = 100.0 - np.arange(101)
    wanted = np.minimum(0.3, 0.3 / 40**1.2 * left**1.2)
    found = rates("power_cool", options, num_steps=100, until=100)
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_noam_and_inverse_sqrt_are_the_formula_of_vaswani_et_al():
    width, warmup_steps, steps = 512, 4000, np.array([1, 100, 4000, 4001, 99_999])
    formula = width**-0.5 * np.minimum(steps**-0.5, steps * warmup_steps**-1.5)
    peak = (width * warmup_steps) ** -0.5
    for config in (
        dict(name="inverse_sqrt", peak=peak, warmup_steps=warmup_steps),
        dict(name="noam", width=width, warmup_steps=warmup_steps),
    ):
        rate = build(SCHEDULES, config, num_steps=100_000)
        found = every(rate, jnp.array(steps - 1))
        np.testing.assert_allclose(found, formula, rtol=1e-6)


def test_counts_of_noam_whose_product_no_int32_holds_have_a_rate():
    counts = dict(width=jnp.int32(100_000), warmup_steps=jnp.int32(100_000))
    rate = build(SCHEDULES, dict(name="noam", **counts), num_steps=200_000)
    np.testing.assert_allclose(jax.jit(rate)(99_999), 1e-5, rtol=1e-6)


def test_restarts_come_at_the_step_even_late_in_a_long_run():
    falls = dict(peak=1.0, warmup_steps=0, period_steps=1000, growth=2)
    rate = jax.jit(build(SCHEDULES, dict(name="cosine_restarts", **falls), num_steps=9))
    for number in (1, 7, 17, 20):
        start = 1000 * (2**number - 1)
        assert rate(start) == 1.0
        assert rate(start - 1) < 1e-4
    falls |= dict(period_steps=3, growth=1_000_000)
    rate = build(SCHEDULES, dict(name="cosine_restarts", **falls), num_steps=9)
    late = jnp.array([3, 3_000_003, 2**31 - 1])
    assert jnp.all(jnp.isfinite(every(rate, late)))


def test_a_number_whose_schedule_is_none_is_as_it_is():
    share = build(SHARES, dict(name="none"), peak=1.0, num_steps=9)
    assert share(jnp.int32(3)) == 1.0
    assert "noam" not in SHARES
    assert SHARES.keys() - SCHEDULES.keys() == {"none"}
