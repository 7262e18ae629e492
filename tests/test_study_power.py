"""study/power.py by simulation and known tables; study/nanogpt.py by worked values."""

import math

import numpy as np
import pytest
from scipy import stats

from study import nanogpt, power
from study.significance import regroup, sign_flip


@pytest.mark.parametrize("side", ["greater", "two-sided"])
@pytest.mark.parametrize(("num_seeds", "effect"), [(5, 1.5), (12, 0.7)])
def test_power_is_how_often_a_simulated_t_test_finds_it(num_seeds, effect, side):
    rng = np.random.default_rng(num_seeds)
    gains = rng.normal(effect, 1, (20_000, num_seeds))
    found = stats.ttest_1samp(gains, 0, axis=1, alternative=side).pvalue
    told = power.power(effect, 1, num_seeds, paired=True, side=side)
    assert np.mean(found <= 0.05) == pytest.approx(told, abs=0.012)
    others = rng.normal(size=gains.shape)
    found = stats.ttest_ind(gains, others, axis=1, alternative=side).pvalue
    told = power.power(effect, 1, num_seeds, paired=False, side=side)
    assert np.mean(found <= 0.05) == pytest.approx(told, abs=0.012)


@pytest.mark.parametrize(
    ("paired", "side", "wanted"),
    [
        (True, "greater", 27),
        (True, "two-sided", 34),
        (False, "greater", 51),
        (False, "two-sided", 64),
    ],
)
def test_a_medium_effect_takes_as_many_as_in_cohens_tables(paired, side, wanted):
    assert power.needed_seeds(0.5, 1, paired=paired, side=side) == wanted


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("effect", [0.01, 0.2, 1.0, 3.0, 50.0])
def test_the_needed_seeds_are_the_first_that_suffice(effect, paired):
    options = dict(paired=paired, alpha=0.01)
    number = power.needed_seeds(effect, 1.0, aim=0.9, **options)
    if number < power.LARGE:
        assert power.power(effect, 1.0, number, **options) >= 0.9
        assert number == 2 or power.power(effect, 1.0, number - 1, **options) < 0.9
        least = power.detectable_effect(7.0, number, aim=0.9, **options)
        assert least <= 7 * effect
        assert power.power(least, 7.0, number, **options) == pytest.approx(0.9)
    quantiles = stats.norm.isf(0.01) + stats.norm.ppf(0.9)
    normal = (1 if paired else 2) * (quantiles / effect) ** 2
    assert normal <= number <= normal + 9


@pytest.mark.parametrize("side", ["greater", "two-sided"])
@pytest.mark.parametrize("num_seeds", [2, 5, 50])
def test_power_rises_from_alpha_to_one_without_a_gap(num_seeds, side):
    effects = [0.0, *np.geomspace(0.01, 1e20, 120)]
    for paired in (True, False):
        options = dict(paired=paired, alpha=0.01, side=side)
        found = [power.power(effect, 1, num_seeds, **options) for effect in effects]
        assert found[0] == pytest.approx(0.01)
        assert found[-1] == 1
        assert np.all(np.diff(found) > -1e-6)


def test_far_out_power_goes_on_where_the_series_is_left():
    near, far = (
        power.power(share * power.FAR / math.sqrt(5), 1, 5, paired=True, alpha=1e-12)
        for share in (1 - 1e-7, 1 + 1e-7)
    )
    assert 0.1 < near < 0.9
    assert far == pytest.approx(near, abs=1e-5)


def test_seeds_with_next_to_no_spread_are_enough_at_two():
    for sd in (0.0, 1e-17, 1e-9):
        assert power.needed_seeds(0.1, sd, paired=True) == 2


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("number", [1, 2, 7])
def test_with_the_fewest_seeds_the_exact_test_just_reaches_alpha(number, alpha):
    pairs = power.fewest_pairs(alpha, number)
    assert number * sign_flip(np.ones(pairs)) <= alpha < number * 0.5 ** (pairs - 1)
    both = power.fewest_pairs(alpha, number, side="two-sided")
    assert number * sign_flip(np.ones(both), side="two-sided") <= alpha
    assert both == pairs + 1
    runs = power.fewest_runs(alpha, number)
    for size, reached in ((runs, True), (runs - 1, False)):
        if size:
            best = regroup(np.ones(size), np.zeros(size))
            assert (number * best <= alpha) is reached


def test_five_pairs_carry_one_comparison_and_not_two():
    assert power.fewest_pairs(0.05, 1) == 5
    assert power.fewest_pairs(0.05, 2) == 6
    assert power.fewest_pairs(1 / 32, 1) == 5


def test_questions_without_an_answer_are_refused():
    with pytest.raises(ValueError, match="effect=0 must be above 0"):
        power.needed_seeds(0, 1, paired=True)
    with pytest.raises(ValueError, match="sd=inf must be a number"):
        power.needed_seeds(1, math.inf, paired=True)
    with pytest.raises(ValueError, match=r"alpha=0\.9 must be above 0, below aim"):
        power.detectable_effect(1, 5, paired=True, alpha=0.9)
    with pytest.raises(ValueError, match="alpha=0 must be above 0"):
        power.fewest_pairs(0)
    with pytest.raises(ValueError, match="num_seeds=1 must be 2 or more"):
        power.detectable_effect(1, 1, paired=True)


def test_worked_margins_of_track_3():
    """Results 13 over 11, 13 over 8, and 12 over 6, as the README has them."""
    found = [
        nanogpt.track3_pair_margin(0.0, 15, 16, 10),
        nanogpt.track3_pair_margin(3.2778 - 3.2785, 40, 10, 16),
        nanogpt.track3_pair_margin(-0.0002, 50, 20, 20),
    ]
    assert found == pytest.approx([0.00167, 0.0027, 0.00648], abs=5e-5)
    assert found[0] == pytest.approx(0.001675, abs=1e-6)
    assert [margin >= nanogpt.ENOUGH for margin in found] == [False, False, True]


def test_the_margin_of_track_3_is_a_z_test_at_one_in_a_thousand():
    sigma = 0.0013
    for mean, num_runs in ((3.276, 1), (3.278, 4)):
        margin = nanogpt.track3_margin(mean, num_runs)
        assert margin == pytest.approx(nanogpt.ENOUGH)
        z = (nanogpt.TARGET - mean) / (sigma / math.sqrt(num_runs))
        assert margin / sigma == pytest.approx(z)
    assert stats.norm.sf(nanogpt.ENOUGH / sigma) == pytest.approx(0.001, abs=5e-5)


# Forty runs of a record of track 1, 4 December 2024; its README says p=0.0003.
LOSSES = (
    "2759 2781 2791 2771 2838 2749 2793 2790 2794 2744 2751 2845 2736 2783 2793 2779 "
    "2756 2810 2803 2766 2851 2750 2778 2723 2842 2735 2750 2796 2782 2758 2763 2751 "
    "2791 2804 2725 2898 2718 2764 2710 2745"
)


def test_track_1_asks_a_t_test():
    losses = [3 + int(digits) / 10_000 for digits in LOSSES.split()]
    assert nanogpt.track1_p(losses) == pytest.approx(0.0003, abs=5e-5)
    theirs = stats.ttest_1samp(losses, 3.28, alternative="less").pvalue
    assert nanogpt.track1_p(losses) == pytest.approx(theirs)
    assert (nanogpt.track1_p([3.27] * 3), nanogpt.track1_p([3.28] * 3)) == (0, 1)
    assert nanogpt.track1_p([*losses, math.nan]) == nanogpt.track1_p(losses[:1]) == 1
