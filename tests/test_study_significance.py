"""study/significance.py against scipy and against every arrangement, counted."""

import itertools

import numpy as np
import pytest
from scipy import stats

from study import significance
from study.significance import holm, page, regroup, sign_flip, tost

SIDES = ("greater", "two-sided")


def mean_gain(first, second, axis):
    return first.mean(axis) - second.mean(axis)


def theirs(first, second, kind, side):
    return stats.permutation_test(
        (first, second),
        mean_gain,
        permutation_type=kind,
        alternative=side,
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(4))
def test_the_tests_are_scipys(seed, side):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.5, 1, 7), rng.normal(size=7)
    if seed == 3:  # ties
        first, second = first.round(), second.round()
    found = sign_flip(first - second, side=side)
    assert found == pytest.approx(theirs(first, second, "samples", side))
    first, second = first[:5], second[:5]
    found = regroup(first, second, side=side)
    assert found == pytest.approx(theirs(first, second, "independent", side))
    if side == "greater":
        found = regroup(first[:3], second)
        assert found == pytest.approx(theirs(first[:3], second, "independent", side))


def test_over_all_signs_each_p_value_comes_once_so_alpha_is_kept():
    sizes = 2.0 ** np.arange(5)
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))
    found = sorted(sign_flip(gains) for gains in signs * sizes)
    np.testing.assert_allclose(found, np.arange(1, 33) / 32)
    both = sorted(sign_flip(gains, side="two-sided") for gains in signs * sizes)
    np.testing.assert_allclose(both, np.repeat(np.arange(1, 17), 2) / 16)


def test_gains_that_are_equal_but_for_rounding_are_ties():
    first = np.array([3.281, 3.282, 3.283, 3.284])
    gains = first - np.array([3.280, 3.281, 3.282, 3.283])
    assert len(set(gains)) > 1
    gains[3] = -gains[3]
    assert sign_flip(gains) == 5 / 16
    assert regroup(first, first[::-1].copy()) == pytest.approx(
        theirs(np.arange(4.0), np.arange(4.0), "independent", "greater")
    )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", [12, 20, 30])
def test_on_ranks_the_tests_are_those_of_wilcoxon_exact_or_drawn(size, side):
    rng = np.random.default_rng(size)
    ranks = rng.permutation(size) + 1.0
    gains = ranks * np.where(rng.random(size) < 0.65, 1, -1)
    wanted = stats.wilcoxon(gains, alternative=side, method="exact").pvalue
    exact = size <= significance.EXACT_PAIRS
    room = 1e-12 if exact else 4 * np.sqrt(wanted / significance.NUM_DRAWS)
    assert sign_flip(gains, side=side) == pytest.approx(wanted, abs=room)
    first, second = ranks[: size // 2], ranks[size // 2 :]
    wanted = stats.mannwhitneyu(first, second, alternative=side, method="exact").pvalue
    room = 1e-12 if exact else 4 * np.sqrt(wanted / significance.NUM_DRAWS)
    assert regroup(first, second, side=side) == pytest.approx(wanted, abs=room)


def test_drawn_p_values_are_seeded_and_never_zero():
    assert sign_flip(np.ones(20)) == 0.5**20  # all are counted
    gains = np.arange(1.0, 41.0)
    assert sign_flip(gains) == 1 / (significance.NUM_DRAWS + 1)
    gains[30:] *= -1
    assert sign_flip(gains) == sign_flip(gains) != sign_flip(gains, seed=1)


@pytest.mark.parametrize("side", SIDES)
def test_a_run_that_diverged_is_a_loss_beyond_all_others(side):
    rng = np.random.default_rng(8)
    first, second = rng.normal(2.4, 0.01, 6), rng.normal(2.395, 0.01, 6)
    first[2] = second[0] = second[1] = np.inf
    gains = first - second
    large = np.where(np.isinf(gains), np.sign(gains) * 1e6, gains)
    assert sign_flip(gains, side=side) == sign_flip(large, side=side)
    large = [np.where(np.isinf(losses), 1e6, losses) for losses in (first, second)]
    found = regroup(first, second, side=side)
    assert found == regroup(*large, side=side)
    assert found != regroup(first[3:], second[3:], side=side)


def test_all_or_no_runs_diverged_is_a_result_too():
    lost, kept = np.full(5, np.inf), np.full(5, 2.3)
    assert sign_flip(lost - kept) == 1 / 32
    assert regroup(lost, kept) == 1 / 252
    assert regroup(kept, lost) == 1
    assert regroup(lost, lost) == regroup(kept, kept) == sign_flip(kept - kept) == 1


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="gains: pair 1 has NaN"):
        sign_flip([0.1, float("nan")])
    with pytest.raises(ValueError, match="NaN is none"):
        regroup(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="each arm needs one"):
        regroup(np.array([]), np.array([1.0]))
    with pytest.raises(ValueError, match="NaN has no rank"):
        page(np.array([[1, 2, np.nan]] * 3))
    with pytest.raises(ValueError, match=r"shape \(1, 3\) are too few"):
        page(np.array([[1, 2, 3]]))
    with pytest.raises(ValueError, match="margin=0 must be above 0"):
        tost(np.ones(3), np.ones(3), margin=0, paired=True)


def closed(p_values):
    """Holm by the closed testing principle: the worst of all sets with a member in."""
    numbers = range(len(p_values))
    sets = [s for k in numbers for s in itertools.combinations(numbers, k + 1)]
    bonferroni = {s: min(1, len(s) * min(p_values[i] for i in s)) for s in sets}
    return [max(p for s, p in bonferroni.items() if i in s) for i in numbers]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_by_bonferroni(seed):
    p_values = np.random.default_rng(seed).random(6) ** 3
    p_values[4] = p_values[2]
    np.testing.assert_allclose(holm(p_values), closed(p_values))


@pytest.mark.parametrize("gain", [-0.012, 0.0, 0.004, 0.03])
def test_equivalence_is_the_worse_of_two_t_tests(gain):
    rng = np.random.default_rng(2)
    first, second = rng.normal(gain, 0.01, 6), rng.normal(0, 0.02, 9)
    options = dict(equal_var=False)
    wanted = max(
        stats.ttest_ind(first + 0.02, second, alternative="greater", **options).pvalue,
        stats.ttest_ind(first - 0.02, second, alternative="less", **options).pvalue,
    )
    assert tost(first, second, margin=0.02, paired=False) == pytest.approx(wanted)
    second = second[:6]
    wanted = max(
        stats.ttest_rel(first + 0.02, second, alternative="greater").pvalue,
        stats.ttest_rel(first - 0.02, second, alternative="less").pvalue,
    )
    assert tost(first, second, margin=0.02, paired=True) == pytest.approx(wanted)


def test_a_diverged_or_a_lone_run_is_equal_to_nothing():
    values, lost = np.array([2.3, 2.3, 2.3]), np.array([2.3, np.inf, 2.3])
    for paired in (True, False):
        assert tost(values, lost, margin=9, paired=paired) == 1
        assert tost(lost, lost, margin=9, paired=paired) == 1
        assert tost(values[:1], values[:1], margin=9, paired=paired) == 1
        assert tost(values, values, margin=0.1, paired=paired) == 0
        assert tost(values, values + 0.2, margin=0.1, paired=paired) == 1


def test_pages_trend_is_the_share_of_rankings_that_rise_as_much():
    losses = np.array([[2.1, 2.2, np.inf], [2.0, 2.4, 2.3], [2.2, 2.5, 2.6]])
    orders = list(itertools.permutations([1, 2, 3]))
    weight = {order: np.dot(order, [1, 2, 3]) for order in orders}
    seen = sum(weight[tuple(r)] for r in stats.rankdata(losses, axis=1).astype(int))
    sums = [
        sum(weight[o] for o in rows) for rows in itertools.product(orders, repeat=3)
    ]
    assert page(losses) == pytest.approx(np.mean(np.array(sums) >= seen))
    assert page(losses[:, ::-1]) > 0.9
