"""Intervals of a mean and of a difference, each with the method that it is from.

A t-interval below 50 values, from there on the bootstrap (BCa, 9,999 resamples). Where
the bootstrap begins was measured: how often 95 % intervals of 12,000 samples covered
the mean, by t | by the bootstrap, in per cent.

    values               5         10        20        30        50       100
    normal           94 | 84   95 | 90   95 | 93   95 | 94   95 | 94   95 | 95
    exponential      87 | 79   91 | 89   92 | 91   93 | 92   94 | 94   94 | 94
    lognormal        82 | 73   85 | 84   87 | 88   89 | 90   90 | 90   92 | 93
    t, 3 degrees     97 | 82   97 | 88   96 | 89   96 | 90   96 | 91   95 | 92

(2,000 samples at 5 and 10.) So the bootstrap is within a point of 95 % from 50 normal
values on. Of skewed values neither is, at any n here, and the bootstrap is the better
one by a point at most; with heavy tails it is worse by four.
Source: Efron 1987, https://doi.org/10.1080/01621459.1987.10478410; Welch 1947.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
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
    values: Sequence[float] | np.ndarray, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """That of the mean.

    >>> print(interval([2.31, 2.29, 2.33, 2.30, 2.32]))
    2.31 [2.29, 2.33]
    >>> print(interval([2.31, float("inf")]))
    inf (no interval: 1 of 2 values is not finite)
    """
    values = np.asarray(values, np.float64)
    why = _why_not(values)
    if why:
        return _none(values, why)
    if _resampled(values):
        low, high = _bootstrap((values,), level, seed)
        return Interval(float(values.mean()), low, high, values.size, "bootstrap")
    return _student(estimate(values), level, values.size)


def paired_interval(
    baseline: np.ndarray,
    candidate: np.ndarray,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """That of the mean gain, baseline - candidate, of losses that belong together."""
    with np.errstate(invalid="ignore"):  # inf - inf, which then is not finite either
        return interval(baseline - candidate, level=level, seed=seed)


def unpaired_interval(
    baseline: np.ndarray,
    candidate: np.ndarray,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """That of the gain, mean baseline - mean candidate, by Welch's t below 50."""
    num_values = min(baseline.size, candidate.size)
    for values in (baseline, candidate):
        why = _why_not(values)
        if why:
            with np.errstate(invalid="ignore"):
                gain = _mean(baseline) - _mean(candidate)
            return Interval(gain, -math.inf, math.inf, num_values, "none", why)
    if _resampled(baseline) and _resampled(candidate):
        low, high = _bootstrap((baseline, candidate), level, seed)
        gain = float(baseline.mean() - candidate.mean())
        return Interval(gain, low, high, num_values, "bootstrap")
    return _student(estimate_apart(baseline, candidate), level, num_values)


def estimate(values: np.ndarray) -> Estimate:
    """The mean of two values or more."""
    error = values.std(ddof=1) / math.sqrt(values.size)
    return Estimate(float(values.mean()), float(error), values.size - 1)


def estimate_apart(baseline: np.ndarray, candidate: np.ndarray) -> Estimate:
    """The gain of unpaired losses whose variances may differ, after Welch."""
    parts = [estimate(values) for values in (baseline, candidate)]
    variance = sum(part.error**2 for part in parts)
    freedom = min(part.freedom for part in parts)
    if variance > 0:
        freedom = variance**2 / sum(p.error**4 / p.freedom for p in parts)
    return Estimate(parts[0].value - parts[1].value, math.sqrt(variance), freedom)


def _student(found: Estimate, level: float, num_values: int) -> Interval:
    half = float(stats.t.ppf((1 + level) / 2, found.freedom)) * found.error
    low, high = found.value - half, found.value + half
    return Interval(found.value, low, high, num_values, "t")


def _resampled(values: np.ndarray) -> bool:
    """Whether the bootstrap may; of values that are all the same it can say nothing."""
    return values.size >= BOOTSTRAP_FROM and np.ptp(values) > 0


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


def _why_not(values: np.ndarray) -> str:
    """What keeps values from having an interval, or nothing."""
    lost = values.size - int(np.isfinite(values).sum())
    if lost:
        return (
            f"{lost} of {values.size} values {'is' if lost == 1 else 'are'} not finite"
        )
    if values.size < 2:
        return "one value has no spread" if values.size else "there are no values"
    return ""


def _none(values: np.ndarray, why: str) -> Interval:
    return Interval(_mean(values), -math.inf, math.inf, values.size, "none", why)


def _mean(values: np.ndarray) -> float:
    """The mean; NaN, without a warning, of none and of infinities that differ."""
    with np.errstate(invalid="ignore"):
        return float(values.mean()) if values.size else math.nan
