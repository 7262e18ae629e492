"""What a budget buys: of trials, of the learning rate's width, of cost for quality.

Losses are losses: less is better, and a score is negated first. A run that diverged is
among them as inf or nan and counts as the worst. In the names of arrays R are runs and
X levels of loss.

Source: Dodge et al. 2019, https://arxiv.org/abs/1909.03004, for the expected best of k
trials, by the unbiased estimator of Tang et al. 2020, https://arxiv.org/abs/2004.13705,
section 3.2: the mean over all sets of k different trials, where Dodge draws with
replacement and so is too good. Lourie et al. 2024, https://arxiv.org/abs/2311.09480,
for the median best and its interval, which holds for any distribution, where the
bootstrap of an expected best does not once k is a tenth of the trials. Wortsman et al.
2023, https://arxiv.org/abs/2309.14322, section 2.2, for the sensitivity to the rate.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from scipy.special import gammaln


class Best(NamedTuple):
    """The best of k trials out of all that were made.

    `expected` is the mean over sets of k trials. `median`, the loss that half of such
    sets reach, lies between `low` and `high`; -inf or inf where the trials are too few
    to say.
    """

    expected: float
    median: float
    low: float
    high: float


class Basin(NamedTuple):
    """The learning rates around the best one that lose little; `decades` is log10.

    At an `open` end the grid stops before the loss has risen: the basin is wider.
    """

    low: float
    high: float
    decades: float
    open_low: bool
    open_high: bool


def best_of(
    loss_R: Sequence[float] | Float[np.ndarray, "R"],
    k: int,
    *,
    ceiling: float = math.inf,
    confidence: float = 0.95,
) -> Best:
    """What the best of `k` random trials has, told from the trials of a random search.

    No loss counts more than `ceiling`, say the one before training; without one,
    `expected` is inf as soon as k trials diverged, and `median` need not be.

    Raises:
      ValueError: `k` is not from 1 to the number of trials.

    >>> round(best_of([3.0, 1.0, 2.0], k=2).expected, 3)  # of {1, 2}, {1, 3}, {2, 3}
    1.333
    >>> round(best_of([3.0, float("nan"), 2.0], k=2).expected, 3)
    2.333
    """
    loss_R = np.sort(np.minimum(_worst_is_inf(loss_R), ceiling))
    R = loss_R.size
    if not 1 <= k <= R:
        raise ValueError(f"k={k} must lie in [1, {R}], the number of trials.")
    # The i-th best of all is the best of those sets whose others are all behind it.
    behind = np.arange(R - 1, k - 2, -1)
    share = np.exp(_log_choose(behind, k - 1) - _log_choose(R, k))
    # Half of all sets of k have one among the best q of the distribution.
    q = 1 - 0.5 ** (1 / k)
    median = loss_R[math.ceil(q * R) - 1]
    tail = (1 - confidence) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], R, q).astype(int)
    padded = np.concatenate([[-math.inf], loss_R, [math.inf]])
    return Best(
        float(share @ loss_R[: behind.size]),
        float(median),
        float(padded[low]),
        float(padded[high + 1]),
    )


def _log_choose(n, k):
    return gammaln(np.add(n, 1)) - gammaln(k + 1) - gammaln(np.subtract(n, k) + 1)


def _worst_is_inf(loss_R) -> np.ndarray:
    loss_R = np.asarray(loss_R, float)
    return np.where(np.isnan(loss_R), np.inf, loss_R)


def rate_sensitivity(
    loss_R: Sequence[float] | Float[np.ndarray, "R"], initial_loss: float
) -> float:
    """How much a badly chosen learning rate costs, in the mean over the grid.

    mean over the rates of min(loss, initial loss), minus the best loss. The rates are
    at equal distances in their logarithm; a run that diverged costs what no training
    does.

    >>> round(rate_sensitivity([2.5, 2.25, 4.5, float("nan")], initial_loss=4.25), 6)
    1.0625
    """
    capped_R = np.minimum(_worst_is_inf(loss_R), initial_loss)
    return float(capped_R.mean() - capped_R.min())


def basin(
    rate_R: Sequence[float] | Float[np.ndarray, "R"],
    loss_R: Sequence[float] | Float[np.ndarray, "R"],
    *,
    within_share: float = 0.01,
) -> Basin:
    """The rates around the best whose loss is at most 1 + `within_share` of its.

    Between two rates of the grid the loss is a straight line over log10 of the rate; to
    a run that diverged it rises at once.

    Raises:
      ValueError: the rates do not rise from above 0, or no run has a loss above 0.

    >>> basin([1e-3, 1e-2, 1e-1], [2.02, 2.0, 2.04]).decades
    1.5
    """
    rates, losses = np.asarray(rate_R, float), _worst_is_inf(loss_R)
    if rates.shape != losses.shape or not np.all(np.diff(rates, prepend=0) > 0):
        raise ValueError("Rates must be as many as losses, above 0, and rise.")
    best = int(np.argmin(losses))
    if not 0 < losses[best] < math.inf:
        raise ValueError(f"The best loss is {losses[best]}; a basin needs one above 0.")
    limit = losses[best] * (1 + within_share)

    def end(step: int) -> tuple[float, bool]:
        at = best
        while 0 <= at + step < losses.size:
            if losses[at + step] > limit:
                part = (limit - losses[at]) / (losses[at + step] - losses[at])
                logs = np.log10(rates[[at, at + step]])
                return float(logs[0] + part * (logs[1] - logs[0])), False
            at += step
        return float(np.log10(rates[at])), True

    (low, open_low), (high, open_high) = end(-1), end(+1)
    return Basin(10**low, 10**high, high - low, open_low, open_high)


def on_front(
    cost_R: Sequence[float] | Float[np.ndarray, "R"],
    loss_R: Sequence[float] | Float[np.ndarray, "R"],
) -> Bool[np.ndarray, "R"]:
    """Which runs no other one beats: none is as good in both and better in one.

    A run that diverged or has no cost is never on it, and of two equal ones both are.

    >>> on_front([1, 2, 3, 4], [5.0, 3.0, 4.0, float("nan")]).tolist()
    [True, True, False, False]
    """
    cost_R, loss_R = np.asarray(cost_R, float), _worst_is_inf(loss_R)
    as_good = (cost_R[:, None] <= cost_R) & (loss_R[:, None] <= loss_R)
    better = (cost_R[:, None] < cost_R) | (loss_R[:, None] < loss_R)
    return np.isfinite(cost_R + loss_R) & ~np.any(as_good & better, axis=0)


def hypervolume(
    cost_R: Sequence[float] | Float[np.ndarray, "R"],
    loss_R: Sequence[float] | Float[np.ndarray, "R"],
    worst: tuple[float, float],
) -> float:
    """The area between the front and the corner `worst`, a cost and a loss.

    It grows with every point that is better than all others somewhere. What is beyond
    the corner adds nothing.

    >>> hypervolume([1, 2], [3.0, 1.0], worst=(4, 4))
    7.0
    """
    front = on_front(cost_R, loss_R)
    points = np.stack([np.asarray(cost_R, float), _worst_is_inf(loss_R)], axis=1)
    points = np.minimum(points[front], worst)
    points = points[np.argsort(points[:, 0], kind="stable")]
    widths = np.diff(points[:, 0], append=worst[0])
    return float(widths @ (worst[1] - points[:, 1]))


def cost_at(
    loss_X: Sequence[float] | Float[np.ndarray, "X"],
    cost_R: Sequence[float] | Float[np.ndarray, "R"],
    loss_R: Sequence[float] | Float[np.ndarray, "R"],
) -> Float[np.ndarray, "X"]:
    """What each level of loss costs on the curve through the front of some points.

    Between two points of the front the loss is a straight line over the logarithm of
    the cost. A level below all points costs inf; one above the first is nan, for what
    costs less was not tried.

    Raises:
      ValueError: a cost is not above 0 and finite.

    >>> cost_at([3.0, 2.5, 1.0, 4.0], [1, 4], [3.0, 2.0]).tolist()
    [1.0, 2.0, inf, nan]
    """
    costs = np.asarray(cost_R, float)
    wrong = costs[~((costs > 0) & (costs < np.inf))]
    if wrong.size:
        raise ValueError(f"A cost of {wrong[0]} must be above 0 and finite.")
    front = on_front(costs, loss_R)
    losses = _worst_is_inf(loss_R)[front]
    if not losses.size:
        return np.full(np.shape(loss_X), np.inf)
    order = np.argsort(losses, kind="stable")
    logs = np.log(costs[front][order])
    return np.exp(np.interp(loss_X, losses[order], logs, left=np.inf, right=np.nan))


def speedup(
    loss_X: Sequence[float] | Float[np.ndarray, "X"],
    ours: tuple[Sequence[float], Sequence[float]],
    theirs: tuple[Sequence[float], Sequence[float]],
) -> Float[np.ndarray, "X"]:
    """How many times less `ours` costs than `theirs` at equal loss.

    Each is its costs and its losses, of a curve or of the ends of some runs; `cost_at`
    reads them. 0 where only theirs gets to a level, inf where only ours does, and nan
    where neither does or one has no point so high.

    >>> ours, theirs = ([1, 4], [3.0, 2.0]), ([2, 8, 32], [3.0, 2.0, 1.0])
    >>> speedup([2.0, 1.5], ours, theirs).round(3).tolist()
    [2.0, 0.0]
    """
    with np.errstate(invalid="ignore"):  # inf / inf
        return cost_at(loss_X, *theirs) / cost_at(loss_X, *ours)
