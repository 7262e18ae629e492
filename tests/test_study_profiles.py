"""Time to target, performance profiles and their area."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.profiles import (
    area,
    geometric_speedup,
    median_of_best,
    profile,
    ratios,
    time_to_target,
    trapezoid_area,
)

INF, NAN = math.inf, math.nan
RATIOS = st.lists(st.floats(1, 6) | st.just(INF), min_size=1, max_size=12)
TIMES = {
    "adam": {"lm": 100.0, "mt": 300.0, "qa": INF},
    "muon": {"lm": 80.0, "mt": INF, "qa": INF},
    "lion": {"lm": 400.0, "mt": 150.0, "qa": INF},
}


@pytest.mark.parametrize(
    ("value_T", "maximize", "expected"),
    [
        ([4, 3, 2, 1], False, 30),
        ([4, 3, 2.1, 2.01], False, INF),
        ([1, 3, 1, 4], False, 10),  # the first time, though it is lost again
        ([NAN, INF, 2, NAN], False, 30),
        ([-INF, 3, 3, 3], False, INF),
        ([1, INF, 1.9, 2], True, 40),
        ([NAN, NAN, NAN, NAN], True, INF),
    ],
)
def test_the_target_is_reached_at_the_first_point_as_good(value_T, maximize, expected):
    cost_T = [10, 20, 30, 40]
    assert time_to_target(cost_T, value_T, 2, maximize=maximize) == expected


@pytest.mark.parametrize("scale", [1, 65_536, 3.7e12])
def test_the_cost_may_be_in_any_unit(scale):
    cost_T = np.array([10, 20, 30]) * scale
    assert time_to_target(cost_T, [4, 3, 2], 3) == 20 * scale


def test_a_curve_that_is_none_is_refused():
    with pytest.raises(ValueError, match="2 costs and 3 values"):
        time_to_target([1, 2], [1, 2, 3], 1)
    with pytest.raises(ValueError, match="must not fall"):
        time_to_target([1, 3, 2], [1, 2, 3], 1)


def test_half_of_the_studies_without_the_target_is_a_miss():
    assert median_of_best([[5.0, INF], [7.0]]) == 6
    assert median_of_best([[5.0], [INF], [INF, INF], [7.0]]) == INF
    assert median_of_best([[5.0], [7.0], [INF]]) == 7
    assert median_of_best([[], [3.0], [4.0]]) == 4


def test_what_nobody_reaches_counts_against_everybody():
    found = ratios(TIMES)
    assert found["adam"] == {"lm": 1.25, "mt": 2, "qa": INF}
    assert found["muon"] == {"lm": 1, "mt": INF, "qa": INF}
    assert profile(list(found["lion"].values()), [1, 5, 1e9]).tolist() == [
        1 / 3,
        2 / 3,
        2 / 3,
    ]


@pytest.mark.parametrize("wrong", [0.0, -1.0, NAN])
def test_a_time_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"muon\.lm=.* must be above 0"):
        ratios({"adam": {"lm": 1.0}, "muon": {"lm": wrong}})


def test_a_missing_workload_is_refused():
    with pytest.raises(ValueError, match="muon has no mt; a miss is inf"):
        ratios({"muon": {"lm": 1.0}, "adam": {"lm": 1.0, "mt": 2.0}})


@given(RATIOS, st.floats(1.5, 6))
def test_the_exact_area_is_the_integral_of_the_profile(ratio_W, max_ratio):
    # The staircase is constant between these, so rectangles are exact.
    edges = np.unique(np.clip([1, max_ratio, *ratio_W], 1, max_ratio))
    heights = profile(ratio_W, edges[:-1])
    integral = (heights * np.diff(edges)).sum() / (max_ratio - 1)
    np.testing.assert_allclose(area(ratio_W, max_ratio), integral, atol=1e-12)


@given(RATIOS, st.integers(2, 200))
def test_trapezoids_are_off_by_half_a_distance_at_most(ratio_W, num_points):
    off = abs(trapezoid_area(ratio_W, 4, num_points) - area(ratio_W, 4))
    assert off <= 0.5 / (num_points - 1) + 1e-12


@given(RATIOS)
def test_an_area_is_a_share_and_does_not_rise_with_any_ratio(ratio_W):
    assert 0 <= area(ratio_W) <= 1
    assert area([r + 0.5 for r in ratio_W]) <= area(ratio_W)
    assert area([*ratio_W, INF]) <= area(ratio_W)


def test_a_speedup_says_what_it_leaves_out():
    found = geometric_speedup(TIMES, "lion", "adam")
    np.testing.assert_allclose(found.ratio, math.sqrt(0.25 * 2))
    assert found[1:] == (2, 0, 0)
    assert geometric_speedup(TIMES, "muon", "adam") == (1.25, 1, 1, 0)
    assert geometric_speedup(TIMES, "adam", "muon") == (0.8, 1, 0, 1)


def test_without_a_workload_in_common_there_is_no_speedup():
    found = geometric_speedup({"a": {"w": INF}, "b": {"w": 1.0}}, "a", "b")
    assert math.isnan(found.ratio)
    assert found[1:] == (0, 1, 0)
