"""Best of k trials, the width in the learning rate, fronts, and speed at equal loss."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.budget import (
    basin,
    best_of,
    cost_at,
    hypervolume,
    on_front,
    rate_sensitivity,
    speedup,
)

INF, NAN = math.inf, math.nan
LOSSES = st.lists(
    st.floats(0.5, 8) | st.sampled_from([INF, NAN, 2.0]), min_size=1, max_size=9
)
WHOLE = st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, INF, NAN])
POINTS = st.lists(st.tuples(st.integers(1, 6), WHOLE), min_size=1, max_size=8)


@given(LOSSES, st.data())
def test_the_expected_best_is_the_mean_over_all_sets_of_k(losses, data):
    k = data.draw(st.integers(1, len(losses)))
    ceiling = data.draw(st.sampled_from([INF, 4.2]))
    counted = [INF if math.isnan(x) else x for x in losses]
    sets = itertools.combinations([min(x, ceiling) for x in counted], k)
    expected = np.mean([min(each) for each in sets])
    found = best_of(losses, k, ceiling=ceiling)
    np.testing.assert_allclose(found.expected, expected, rtol=1e-9)
    assert found.low <= found.median <= found.high


def test_more_trials_are_never_worse_and_diverged_ones_never_better():
    rng = np.random.default_rng(0)
    losses = rng.uniform(2, 3, 200)
    curve = [best_of(losses, k) for k in range(1, 201)]
    for name in ("expected", "median", "high"):
        values = [getattr(best, name) for best in curve]
        assert values == sorted(values, reverse=True)
    half = np.where(np.arange(200) % 2, losses, NAN)
    assert best_of(half, 101).expected >= best_of(losses, 101).expected
    assert best_of(half, 100).expected == INF
    assert best_of(half, 100).median < INF
    assert best_of(half, 1).high == INF


def test_an_expected_best_has_no_bias():
    rng = np.random.default_rng(0)
    exact = 1 / (5 + 1)  # of five uniform numbers
    found = [best_of(rng.uniform(size=8), 5).expected for _ in range(4_000)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - exact) < 4 * error < 0.01


@pytest.mark.parametrize(("R", "k"), [(12, 1), (40, 5), (64, 10), (64, 64)])
def test_the_interval_of_the_median_best_covers_it_whatever_the_distribution(R, k):
    rng = np.random.default_rng(1)
    truth = math.exp(2 * (1 - 0.5 ** (1 / k)))  # the quantile of exp(2 u)
    covered = 0
    for _ in range(1_000):
        losses = np.exp(2 * rng.uniform(size=R))
        found = best_of(losses, k)
        covered += found.low <= truth <= found.high
    assert covered >= 950 - 14  # two standard deviations


@pytest.mark.parametrize(("R", "low", "high"), [(13, 3, 11), (18, 5, 14), (20, 6, 15)])
def test_of_one_trial_it_is_the_sign_tests_interval_of_a_median(R, low, high):
    # As the tables of that test have it.
    assert best_of(np.arange(1, R + 1), 1)[2:] == (low, high)


def test_an_interval_is_open_where_the_trials_are_too_few_to_say():
    losses = np.linspace(2, 3, 20)
    assert best_of(losses, 2).low > 2
    assert best_of(losses, 10).low == -INF
    assert best_of(losses[:3], 1)[2:] == (-INF, INF)


@pytest.mark.parametrize("k", [0, 4])
def test_k_is_a_number_of_trials_that_there_are(k):
    with pytest.raises(ValueError, match=rf"k={k} must lie in \[1, 3\]"):
        best_of([1.0, 2.0, 3.0], k)


def test_the_sensitivity_caps_what_diverged_and_counts_it():
    losses = [2.5, 2.3, 2.4, 9.0, NAN, INF]
    by_hand = np.mean([0.2, 0.0, 0.1, 1.8, 1.8, 1.8])
    assert rate_sensitivity(losses, initial_loss=4.1) == pytest.approx(by_hand)
    assert rate_sensitivity([NAN, INF], initial_loss=4.1) == 0


def test_a_basin_is_measured_on_a_parabola():
    # 1 + x^2 / 4 is 1.01 at x = +-.2, and straight lines on a fine grid follow it.
    logs = np.linspace(-1, 1.3, 4_601)
    found = basin(10**logs, 1 + logs**2 / 4)
    assert found.decades == pytest.approx(0.4, abs=1e-6)
    assert np.log10([found.low, found.high]) == pytest.approx([-0.2, 0.2], abs=1e-6)
    assert not found.open_low
    assert not found.open_high


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 3.0, 2.0, 3.0], (1e-4, 10**-3.98, False)),  # the first of two basins
        ([3.0, 2.01, 2.0, 2.04], (None, 10**-1.5, False)),
        ([NAN, 2.0, 2.01, INF], (1e-3, 1e-2, False)),
        ([2.01, 2.0, 2.01, 2.01], (1e-4, 1e-1, True)),
    ],
)
def test_a_basin_ends_where_the_loss_has_risen(losses, expected):
    low, high, open_high = expected
    found = basin([1e-4, 1e-3, 1e-2, 1e-1], losses)
    assert found.high == pytest.approx(high)
    assert found.open_high is open_high
    if low is not None:
        assert found.low == pytest.approx(low)


@pytest.mark.parametrize(
    ("rates", "losses", "match"),
    [
        ([1e-3, 1e-3], [2.0, 2.0], "above 0, and rise"),
        ([0.0, 1e-3], [2.0, 2.0], "above 0, and rise"),
        ([1e-3], [2.0, 2.0], "as many as losses"),
        ([1e-3, 1e-2], [NAN, INF], "best loss is inf"),
    ],
)
def test_a_basin_of_nothing_is_refused(rates, losses, match):
    with pytest.raises(ValueError, match=match):
        basin(rates, losses)


@given(POINTS)
def test_the_front_is_what_no_other_point_beats(points):
    cost_R, loss_R = map(list, zip(*points, strict=True))

    def beats(other, one):
        return other != one and other[0] <= one[0] and other[1] <= one[1]

    expected = [
        math.isfinite(one[1]) and not any(beats(other, one) for other in points)
        for one in points
    ]
    assert on_front(cost_R, loss_R).tolist() == expected


@given(POINTS)
def test_the_hypervolume_is_the_number_of_unit_squares_behind_a_point(points):
    cost_R, loss_R = map(list, zip(*points, strict=True))
    squares = sum(
        any(cost <= x and loss <= y for cost, loss in points)
        for x, y in itertools.product(range(5), range(5))
    )
    assert hypervolume(cost_R, loss_R, worst=(5, 5)) == squares


def test_a_run_without_a_cost_is_not_on_the_front():
    assert on_front([NAN, 1.0], [1.0, 2.0]).tolist() == [False, True]


def test_the_speedup_of_a_power_law_is_the_ratio_of_its_costs():
    cost_R = np.geomspace(1, 1e4, 400)
    loss_R = 2 + cost_R**-0.5
    noisy = np.append(loss_R, [2.5, NAN, INF])  # none of them on the front
    found = speedup(
        np.linspace(2.1, 2.5, 9),
        (cost_R, loss_R),
        (np.append(3 * cost_R, [500, 0.1, 2]), noisy),
    )
    np.testing.assert_allclose(found, 3, rtol=1e-3)


def test_a_level_that_was_not_reached_has_no_finite_speedup():
    ours, theirs = ([1, 2], [3.0, 2.0]), ([1, 2], [2.5, 1.0])
    found = speedup([2.8, 2.2, 1.5, 0.5], ours, theirs)
    assert math.isnan(found[0])  # nobody ran theirs so short
    assert 0 < found[1] < INF
    assert found[2] == 0
    assert math.isnan(found[3])
    assert speedup([1.5], theirs, ours).tolist() == [INF]
    assert cost_at([1.5, 2.5], [1, 2], [NAN, INF]).tolist() == [INF, INF]


def test_a_run_that_costs_nothing_is_refused():
    with pytest.raises(ValueError, match=r"cost of 0\.0 must be above 0"):
        cost_at([2.0], [0, 1], [3.0, 2.0])
