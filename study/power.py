"""How many seeds a question takes, and how small an effect so many seeds can show.

Of a t-test, by the noncentral t distribution: the normal approximation asks for a seed
or two less than it takes. What the exact test needs at least is told apart. Numbers are
for each arm.
Source: Cohen 1988, Statistical Power Analysis, chapter 2.
"""

import itertools
import math

from scipy import optimize, stats

from study.significance import Side

POWER = 0.8
LARGE = 10_000  # seeds: from here on t is normal
FAR = 1_000.0  # standard errors: from here on the noise of the mean is nothing


def fewest_pairs(
    alpha: float, num_comparisons: int = 1, *, side: Side = "greater"
) -> int:
    """The pairs from which on the exact test can come down to alpha / comparisons.

    >>> fewest_pairs(0.05), fewest_pairs(0.05, 2), fewest_pairs(0.05, side="two-sided")
    (5, 6, 6)
    """
    _check(alpha)
    least = _sides(side) * num_comparisons
    return next(n for n in itertools.count(1) if least * 0.5**n <= alpha)


def fewest_runs(
    alpha: float, num_comparisons: int = 1, *, side: Side = "greater"
) -> int:
    """The same for runs that are not paired: how many of each arm.

    >>> fewest_runs(0.05), fewest_runs(0.05, 2)
    (3, 4)
    """
    _check(alpha)
    least = _sides(side) * num_comparisons
    return next(n for n in itertools.count(1) if least <= alpha * math.comb(2 * n, n))


def power(
    effect: float,
    sd: float,
    num_seeds: int,
    *,
    paired: bool,
    alpha: float = 0.05,
    side: Side = "greater",
) -> float:
    """How probable it is that a t-test finds an effect that is there.

    `sd`, above 0, is that of the differences where seeds are paired, else of an arm.
    """
    freedom = num_seeds - 1 if paired else 2 * num_seeds - 2
    shift = effect / sd * math.sqrt(num_seeds if paired else num_seeds / 2)
    beyond = float(stats.t.isf(alpha / _sides(side), freedom))
    if shift > FAR:  # where scipy's series ends in NaN, sooner or later
        return float(stats.chi2.cdf(freedom * (shift / beyond) ** 2, freedom))
    found = float(stats.nct.sf(beyond, freedom, shift))
    if side == "two-sided":
        # The lower tail as an upper one: scipy's nct.cdf is NaN for many of these.
        found += float(stats.nct.sf(beyond, freedom, -shift))
    return found


def needed_seeds(
    effect: float,
    sd: float,
    *,
    paired: bool,
    alpha: float = 0.05,
    aim: float = POWER,
    side: Side = "greater",
) -> int:
    """The seeds of an arm that find an effect with a power of `aim`.

    Raises:
      ValueError: the effect is not above 0, or the spread below it.

    >>> needed_seeds(0.02, 0.01, paired=False, aim=0.9)
    6
    """
    _check(alpha, aim)
    if not effect > 0:
        raise ValueError(f"effect={effect} must be above 0.")
    if not 0 <= sd < math.inf:
        raise ValueError(f"sd={sd} must be a number from 0 on.")
    quantiles = stats.norm.isf(alpha / _sides(side)) + stats.norm.ppf(aim)
    normal = (1 if paired else 2) * (max(quantiles, 0) * sd / effect) ** 2

    def enough(number: int) -> bool:
        if sd == 0 or number >= LARGE:
            return True
        return power(effect, sd, number, paired=paired, alpha=alpha, side=side) >= aim

    return next(n for n in itertools.count(max(2, math.ceil(normal))) if enough(n))


def detectable_effect(
    sd: float,
    num_seeds: int,
    *,
    paired: bool,
    alpha: float = 0.05,
    aim: float = POWER,
    side: Side = "greater",
) -> float:
    """The smallest effect that so many seeds find with a power of `aim`.

    >>> round(detectable_effect(0.01, 5, paired=True), 4)
    0.0136
    """
    _check(alpha, aim)
    if num_seeds < 2 or not 0 < sd < math.inf:
        raise ValueError(f"{num_seeds=} must be 2 or more, and {sd=} above 0.")

    def surplus(effect: float) -> float:
        found = power(effect, 1.0, num_seeds, paired=paired, alpha=alpha, side=side)
        return found - aim

    high = 1.0
    while surplus(high) < 0:
        high *= 2
    return sd * optimize.root_scalar(surplus, bracket=(0.0, high)).root


def _sides(side: Side) -> int:
    return 2 if side == "two-sided" else 1


def _check(alpha: float, aim: float = POWER) -> None:
    if not 0 < alpha < aim < 1:
        raise ValueError(f"{alpha=} must be above 0, below {aim=}, and both below 1.")
