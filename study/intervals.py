"""Intervals of a mean and of a difference, each with the method that it is from.

A t-interval below 50 values, from there on the bootstrap (BCa, 9,999 resamples). Where
the bootstrap begins was measured: how often 95 % intervals of 12,000 samples covered
the mean, by t | by the bootstrap, in per cent.

    values               5         10        20        30        50       100
    normal           94 | 84   95 | 90   95 | 93   95 | 94   95 | 94   95 | 95
    exponential      87 | 79   91 | 89   92 | 91   93 | 92   94 | 94   94 | 94
    lognormal        82 | 73   85 | 84   87 | 88   89 | 90   90 | 90   92 | 93
    t, 3 degrees     97 | 82   97 | 88   96 | 89   96 | 90   96 | 91   95 | 92

(2,000 samples at 5 and 10; 1,999 resamples of each.) So the bootstrap is within a point
of 95 % from 50 normal values on. Of skewed values neither is, at any n here, and from
50 on the bootstrap is the better one by less than a point; with heavy tails it is worse
by three or four.
Source: Efron 1987, https://doi.org/10.1080/01621459.1987.10478410; Welch 1947.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

BOOTSTRAP_FROM = 50  # values
NUM_RESAMPLES = 9_999


class Interval(NamedTuple):
    """A mean and the interval that should cover it.

    `method` is "none" where there is no interval: `why` says why not, the interval is
    the whole line, and the mean may be infinite, or NaN where infinities differ.
    """

    mean: float
    low: float
    high: float
    num_values: int
    method: Literal["t", "bootstrap", "none"]
    why: str = ""

    def __str__(self) -> str:
        if self.method == "none":
            return f"{self.mean:.4g} (no interval: {self.why})"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


class Estimate(NamedTuple):
    """A number, its standard error, and the degrees of freedom of that."""

    value: float
    error: float
    freedom: float


def interval(
    values: Sequence[float] | Float[np.ndarray, "R"],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """That of the mean.

    >>> print(interval([2.31, 2.29, 2.33, 2.30, 2.32]))
    2.31 [2.29, 2.33]
    >>> print(interval([2.31, float("inf")]))
    inf (no interval: 1 of 2 values is not finite)
    """
    value_R = np.asarray(values, np.float64)
    why = _why_not(value_R)
    if why:
        whole = (-math.inf, math.inf)
        return Interval(_mean(value_R), *whole, value_R.size, "none", why)
    if _resampled(value_R):
        low, high = _bootstrap((value_R,), level, seed)
        return Interval(_mean(value_R), low, high, value_R.size, "bootstrap")
    return _student(estimate(value_R), level, value_R.size)


def paired_interval(
    baseline_R: Float[np.ndarray, "R"],
    candidate_R: Float[np.ndarray, "R"],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """That of the mean gain, baseline - candidate, of losses that belong together."""
    with np.errstate(invalid="ignore"):  # inf - inf, which then is not finite either
        return interval(baseline_R - candidate_R, level=level, seed=seed)


def unpaired_interval(
    baseline_R: Float[np.ndarray, "R"],
    candidate_Q: Float[np.ndarray, "Q"],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """That of the gain, mean baseline - mean candidate, by Welch's t below 50."""
    num_values = min(baseline_R.size, candidate_Q.size)
    for value in (baseline_R, candidate_Q):
        why = _why_not(value)
        if why:
            with np.errstate(invalid="ignore"):
                gain = _mean(baseline_R) - _mean(candidate_Q)
            return Interval(gain, -math.inf, math.inf, num_values, "none", why)
    if _resampled(baseline_R) and _resampled(candidate_Q):
        low, high = _bootstrap((baseline_R, candidate_Q), level, seed)
        gain = _mean(baseline_R) - _mean(candidate_Q)
        return Interval(gain, low, high, num_values, "bootstrap")
    return _student(estimate_apart(baseline_R, candidate_Q), level, num_values)


def estimate(value_R: Float[np.ndarray, "R"]) -> Estimate:
    """The mean of two values or more."""
    error = value_R.std(ddof=1) / math.sqrt(value_R.size)
    return Estimate(_mean(value_R), float(error), value_R.size - 1)


def estimate_apart(
    baseline_R: Float[np.ndarray, "R"], candidate_Q: Float[np.ndarray, "Q"]
) -> Estimate:
    """The gain of unpaired losses whose variances may differ, after Welch."""
    parts = [estimate(value) for value in (baseline_R, candidate_Q)]
    variance = sum(part.error**2 for part in parts)
    freedom = min(part.freedom for part in parts)
    if variance > 0:
        freedom = variance**2 / sum(p.error**4 / p.freedom for p in parts)
    return Estimate(parts[0].value - parts[1].value, math.sqrt(variance), freedom)


def _student(found: Estimate, level: float, num_values: int) -> Interval:
    half = float(stats.t.ppf((1 + level) / 2, found.freedom)) * found.error
    low, high = found.value - half, found.value + half
    return Interval(found.value, low, high, num_values, "t")


def _resampled(value_R: Float[np.ndarray, "R"]) -> bool:
    """Whether the bootstrap may; of values that are all the same it can say nothing."""
    return value_R.size >= BOOTSTRAP_FROM and bool(np.ptp(value_R) > 0)


def _bootstrap(
    samples: tuple[np.ndarray, ...], level: float, seed: int
) -> tuple[float, float]:
    def gain(*samples: np.ndarray, axis: int) -> np.ndarray:
        first, *rest = (sample.mean(axis) for sample in samples)
        return first - rest[0] if rest else first

    found = stats.bootstrap(
        samples,
        gain,
        confidence_level=level,
        n_resamples=NUM_RESAMPLES,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _why_not(value_R: Float[np.ndarray, "R"]) -> str:
    """What keeps values from having an interval, or nothing."""
    lost = value_R.size - int(np.isfinite(value_R).sum())
    if lost:
        verb = "is" if lost == 1 else "are"
        return f"{lost} of {value_R.size} values {verb} not finite"
    if value_R.size < 2:
        return "one value has no spread" if value_R.size else "there are no values"
    return ""


def _mean(value_R: Float[np.ndarray, "R"]) -> float:
    """The mean; NaN, without a warning, of none and of infinities that differ."""
    with np.errstate(invalid="ignore"):
        return float(value_R.mean()) if value_R.size else math.nan
