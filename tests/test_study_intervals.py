"""study/intervals.py and study/losses.py: how often intervals cover, what has none."""

import math

import numpy as np
import pytest
from scipy import stats

from study import intervals
from study.losses import gains_of, losses_of

DRAWS = 2_000


def covered(drawn, mean, interval):
    """The share of samples of which the interval covers the mean, and the methods."""
    found = [interval(*samples) for samples in drawn]
    share = np.mean([one.low <= mean <= one.high for one in found])
    return share, {one.method for one in found}


@pytest.mark.parametrize("size", [5, 20])
def test_95_per_cent_intervals_of_a_mean_cover_it_that_often(size):
    drawn = np.random.default_rng(size).normal(2.3, 0.02, (DRAWS, 1, size))
    share, methods = covered(drawn, 2.3, intervals.interval)
    assert abs(share - 0.95) <= 0.015
    assert methods == {"t"}


@pytest.mark.parametrize("size", [5, 20])
def test_intervals_of_a_difference_cover_it_that_often(size):
    rng = np.random.default_rng(size)
    seeds = rng.normal(2.3, 0.1, (DRAWS, 1, size))
    arms = rng.normal([[0.05], [0.0]], [[0.01], [0.03]], (DRAWS, 2, size))
    share, _ = covered(seeds + arms, 0.05, intervals.paired_interval)
    assert abs(share - 0.95) <= 0.015
    share, _ = covered(arms, 0.05, intervals.unpaired_interval)
    assert abs(share - 0.95) <= 0.015


def test_pairing_takes_out_what_seeds_have_in_common():
    rng = np.random.default_rng(0)
    seeds = rng.normal(2.3, 0.1, 5)
    first, second = seeds + 0.05, seeds + rng.normal(0, 0.003, 5)
    paired = intervals.paired_interval(first, second)
    apart = intervals.unpaired_interval(first, second)
    assert paired.mean == pytest.approx(apart.mean)
    assert paired.high - paired.low < 0.2 * (apart.high - apart.low)


@pytest.mark.slow
def test_from_50_values_on_the_bootstrap_covers_and_below_it_does_not():
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(DRAWS, 1, intervals.BOOTSTRAP_FROM))
    share, methods = covered(drawn, 0.0, intervals.interval)
    assert abs(share - 0.95) <= 0.015
    assert methods == {"bootstrap"}
    options = dict(axis=1, n_resamples=1_999, batch=100, method="BCa", rng=rng)
    few = stats.bootstrap((rng.normal(size=(DRAWS, 20)),), np.mean, **options)
    low, high = few.confidence_interval
    assert np.mean((low <= 0) & (high >= 0)) < 0.935


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "mean", "t", "bootstrap"),
    [
        (lambda rng, shape: rng.exponential(size=shape), 1.0, 0.917, 0.935),
        (lambda rng, shape: rng.lognormal(size=shape), math.exp(0.5), 0.870, 0.904),
        (lambda rng, shape: rng.standard_t(3, shape), 0.0, 0.957, 0.912),
    ],
    ids=["exponential", "lognormal", "heavy tails"],
)
def test_intervals_of_other_distributions_cover_as_the_table_says(
    draw, mean, t, bootstrap
):
    for size, told in ((20, t), (50, bootstrap)):
        drawn = draw(np.random.default_rng(size), (DRAWS, 1, size))
        share, _ = covered(drawn, mean, intervals.interval)
        assert abs(share - told) <= 0.02


def test_the_interval_is_that_of_scipys_t_test():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=7), rng.normal(1, 3, size=5)
    for found, theirs in (
        (intervals.interval(first, level=0.9), stats.ttest_1samp(first, 0)),
        (
            intervals.unpaired_interval(first, second, level=0.9),
            stats.ttest_ind(first, second, equal_var=False),
        ),
    ):
        wanted = theirs.confidence_interval(0.9)
        assert (found.low, found.high) == pytest.approx(tuple(wanted))


def test_the_bootstrap_is_seeded_and_is_of_both_arms_or_of_none():
    rng = np.random.default_rng(4)
    many, other, few = rng.normal(size=60), rng.normal(1, 1, 70), rng.normal(size=20)
    once = intervals.unpaired_interval(many, other)
    assert once == intervals.unpaired_interval(many, other)
    assert once != intervals.unpaired_interval(many, other, seed=1)
    assert once.method == "bootstrap"
    assert once.low < once.mean < once.high
    welch = stats.ttest_ind(many, other, equal_var=False).confidence_interval()
    assert (once.low, once.high) == pytest.approx(tuple(welch), abs=0.05)
    for arms in ((many, few), (few, many)):
        assert intervals.unpaired_interval(*arms).method == "t"


@pytest.mark.parametrize("size", [5, 60])
def test_values_that_are_all_the_same_have_an_interval_of_no_width(size):
    values = np.full(size, 2.5)
    assert intervals.interval(values)[:3] == (2.5, 2.5, 2.5)
    assert intervals.unpaired_interval(values, values)[:3] == (0, 0, 0)


def test_what_has_no_interval_says_why_and_covers_all():
    inf = math.inf
    none = intervals.interval([2.3, inf, 2.4])
    assert none == (inf, -inf, inf, 3, "none", "1 of 3 values is not finite")
    assert "2 of 3" in intervals.interval([inf, math.nan, 2.4]).why
    assert intervals.interval([2.3]).why == "one value has no spread"
    assert intervals.interval([]).why == "there are no values"
    lost, kept = np.array([inf, 2.3, inf]), np.array([2.2, 2.3, inf])
    assert intervals.paired_interval(lost, kept[:2].repeat([2, 1])).mean == inf
    for find in (intervals.paired_interval, intervals.unpaired_interval):
        found = find(lost, kept)  # inf - inf: no mean either, and no warning
        assert found.method == "none"
        assert math.isnan(found.mean)
        assert "not finite" in str(found)


def test_a_diverged_run_is_the_worst_whichever_way_is_better():
    scores = [1.0, math.nan, math.inf, -math.inf]
    for better in ("lower", "higher"):
        losses = losses_of(scores, better)
        assert list(losses[1:]) == [math.inf] * 3
    assert losses_of([1.0], "higher") == [-1.0]
    baseline, candidate = np.array([2.5, np.inf, 2.5]), np.array([np.inf, np.inf, 2.0])
    assert list(gains_of(baseline, candidate)) == [-math.inf, 0, 0.5]
    with pytest.raises(ValueError, match=r"better='high' is not known\. Did you"):
        losses_of([1.0], "high")
