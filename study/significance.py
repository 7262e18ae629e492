"""Tests: is one arm better, are two equal, does a row of them rise; and many at once.

Arms come as losses (`study/losses.py`): less is better, +inf is a run that diverged.
Where a test adds values up, each infinite one is worth the same, and more than all
finite ones together: the result is the limit as it grows. In the names of arrays R are
the runs of an arm, Q those of another, X arms or comparisons.
Source: exact tests by permutation, Fisher 1935; of random permutations, the observed
one counted in, Phipson & Smyth 2010, https://arxiv.org/abs/1603.05766; Holm 1979,
https://www.jstor.org/stable/4615733; two one-sided tests, Schuirmann 1987; Page 1963.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from study.intervals import Estimate, estimate, estimate_apart

Side = Literal["greater", "two-sided"]

EXACT_PAIRS = 20  # above it, and above as many regroupings, they are drawn
EXACT_GROUPS = 200_000
NUM_DRAWS = 99_999
TIE = 1e-10  # of all values together: sums closer than that differ by rounding


def sign_flip(
    gains: Sequence[float] | Float[np.ndarray, "R"],
    *,
    side: Side = "greater",
    seed: int = 0,
) -> float:
    """The p-value of paired gains: the share of all signs that do as well as theirs.

    Were both arms equal, each gain could as well have had the other sign. Exact up to
    20 pairs, so never below 2**-pairs; beyond, of 99,999 random signs and these.

    Raises:
      ValueError: a gain is NaN.

    >>> sign_flip([0.1, 0.2, 0.1, 0.3, float("inf")])
    0.03125
    """
    gain_R = np.asarray(gains, np.float64)
    if np.isnan(gain_R).any():
        raise ValueError(f"gains: pair {int(np.isnan(gain_R).argmax())} has NaN.")
    finite_R = np.isfinite(gain_R)
    most = 2 * np.abs(gain_R[finite_R]).sum() or 1.0
    gain_R = np.where(finite_R, gain_R, np.sign(gain_R) * most)
    exact = gain_R.size <= EXACT_PAIRS
    if exact:
        sums = np.zeros(1)
        for gain in gain_R:
            sums = np.concatenate([sums + gain, sums - gain])
    else:
        rng = np.random.default_rng(seed)
        sums = np.zeros(NUM_DRAWS)
        for gain in gain_R:
            sums += rng.choice((-gain, gain), NUM_DRAWS)
    return _share(sums, gain_R.sum(), TIE * np.abs(gain_R).sum(), side, exact)


def regroup(
    baseline_R: Float[np.ndarray, "R"],
    candidate_Q: Float[np.ndarray, "Q"],
    *,
    side: Side = "greater",
    seed: int = 0,
) -> float:
    """The p-value of unpaired losses: the share of regroupings that do as well.

    Did it make no difference which arm a run is of, the runs could as well have been
    dealt out otherwise. Exact up to 200,000 ways to deal; two-sided by the distance of
    the means.

    Raises:
      ValueError: a loss is NaN, or an arm has none.

    >>> import numpy as np
    >>> regroup(np.array([2.5, 2.6, np.inf]), np.array([2.3, 2.4, 2.2]))
    0.05
    """
    losses = np.concatenate([baseline_R, candidate_Q])
    if np.isnan(losses).any() or not (baseline_R.size and candidate_Q.size):
        raise ValueError("losses: each arm needs one or more, and NaN is none.")
    losses, size = _bounded(losses), baseline_R.size
    exact = math.comb(losses.size, size) <= EXACT_GROUPS
    if exact:
        chosen = itertools.combinations(range(losses.size), size)
        sums = losses[np.array(list(chosen))].sum(1)
    else:
        dealt = np.tile(losses, (NUM_DRAWS, 1))
        dealt = np.random.default_rng(seed).permuted(dealt, axis=1)
        sums = dealt[:, :size].sum(1)
    rounding = TIE * np.abs(losses).sum()
    return _share(sums, losses[:size].sum(), rounding, side, exact)


def holm(p_values: Sequence[float]) -> Float[np.ndarray, "X"]:
    """Each p-value as it counts among all of them: Holm's, at most 1.

    Whoever rejects those at most alpha errs once or more with probability alpha.

    >>> holm([0.03, 0.01, 0.5])
    array([0.06, 0.03, 0.5 ])
    """
    p_X = np.asarray(p_values, np.float64)
    order_X = np.argsort(p_X)
    raised_X = p_X[order_X] * np.arange(p_X.size, 0, -1)
    adjusted_X = np.empty_like(raised_X)
    adjusted_X[order_X] = np.minimum(np.maximum.accumulate(raised_X), 1)
    return adjusted_X


def tost(
    baseline_R: Float[np.ndarray, "R"],
    candidate_Q: Float[np.ndarray, "Q"],
    *,
    margin: float,
    paired: bool,
) -> float:
    """The p-value of two one-sided t-tests: small where the means differ by less.

    Less than `margin`, in either direction. Of unpaired losses Welch's. 1 where there
    is no interval: a run diverged, or an arm has less than two.

    Raises:
      ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin} must be above 0.")
    losses = np.concatenate([baseline_R, candidate_Q])
    if min(baseline_R.size, candidate_Q.size) < 2 or not np.isfinite(losses).all():
        return 1.0
    if paired:
        return _within(estimate(baseline_R - candidate_Q), margin)
    return _within(estimate_apart(baseline_R, candidate_Q), margin)


def page(loss_RX: Float[np.ndarray, "R X"]) -> float:
    """The p-value of Page's test that losses rise from column to column.

    A row is a seed, a column an arm, in the order that was predicted. Ranks only, so a
    run that diverged is the last of its row.

    Raises:
      ValueError: a loss is NaN, or there are too few rows or columns.

    >>> import numpy as np
    >>> round(page(np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, np.inf]])), 5)
    7e-05
    """
    if loss_RX.ndim != 2 or loss_RX.shape[0] < 2 or loss_RX.shape[1] < 3:
        raise ValueError(
            f"losses of shape {loss_RX.shape} are too few for a trend, which takes "
            f"2 seeds and 3 arms."
        )
    if np.isnan(loss_RX).any():
        raise ValueError("losses: NaN has no rank; a run that diverged is inf.")
    return float(stats.page_trend_test(loss_RX).pvalue)


def _share(
    sums: np.ndarray, observed: float, rounding: float, side: Side, exact: bool
) -> float:
    """Of all sums those that are as far out; of drawn ones with the observed one."""
    if side == "two-sided":
        sums, observed = np.abs(sums), abs(observed)
    hits = int((sums >= observed - rounding).sum())
    return hits / sums.size if exact else (hits + 1) / (sums.size + 1)


def _bounded(losses: np.ndarray) -> np.ndarray:
    """Losses about their mean, +inf as one that no others together outweigh."""
    finite = np.isfinite(losses)
    known = losses[finite] if finite.any() else np.zeros(1)
    most = 2 * losses.size**2 * np.ptp(known) or 1.0
    bounded = np.where(finite, losses - known.min(), most)
    return bounded - bounded.mean()


def _within(found: Estimate, margin: float) -> float:
    """The greater p-value of the two, which is that of the nearer margin."""
    room = margin - abs(found.value)
    if found.error == 0:
        return 0.0 if room > 0 else 1.0
    return float(stats.t.sf(room / found.error, found.freedom))
