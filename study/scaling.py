"""Scaling laws: fitted from many starts, with intervals, and judged on a larger run.

A law is a sum of terms, each a level times powers of the sizes of a run:

  power      L = E + A N^-alpha
  chinchilla L = E + A N^-alpha + B D^-beta
  sparse     L = c + (a_S density^b_S + c_S) N^-b_N + a_D D^-b_D

with N the parameters (in `sparse` those that are not zero, `density` their share) and D
the data. So log L is the logarithm of a sum of exp of what is linear in exponents and
logarithms of levels, and its gradient is exact. The objective is the mean over the runs
of Huber's loss of log predicted - log measured, a square up to `DELTA`.

In the names of arrays R are runs, T terms, Q coefficients, and S bootstrap draws.

Source: Hoffmann et al. 2022, https://arxiv.org/abs/2203.15556, section 3.3; Besiroglu
et al. 2024, https://arxiv.org/abs/2404.10102, who found that fit stopped too early, for
its objective was small: ours is solved in units of `DELTA` squared, with sizes relative
to their geometric mean. Frantar et al. 2023, https://arxiv.org/abs/2309.08520, equation
3, whose a_D to the power b_D is our a_D.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize

from core.registry import lookup

DELTA = 1e-3

Losses = Sequence[float] | Float[np.ndarray, "R"]
# Of every run, by the name of the size.
Sizes = Mapping[str, Losses]


class Term(NamedTuple):
    """A level times sizes to a power: `powers` is size -> (exponent, its sign)."""

    level: str
    powers: Mapping[str, tuple[str, int]]


LAWS: Mapping[str, tuple[Term, ...]] = {
    "power": (Term("E", {}), Term("A", {"N": ("alpha", -1)})),
    "chinchilla": (
        Term("E", {}),
        Term("A", {"N": ("alpha", -1)}),
        Term("B", {"D": ("beta", -1)}),
    ),
    "sparse": (
        Term("c", {}),
        Term("a_S", {"density": ("b_S", +1), "N": ("b_N", -1)}),
        Term("c_S", {"N": ("b_N", -1)}),
        Term("a_D", {"D": ("b_D", -1)}),
    ),
}


class Fit(NamedTuple):
    """The coefficients by name, and the objective that they have on the runs."""

    law: str
    coefficients: dict[str, float]
    objective: float


class Extrapolation(NamedTuple):
    """A fit to some runs, and of others `error_R`, which is predicted / actual - 1.

    The fit leaves the prediction between `low_R` and `high_R`, in 95 of 100 draws.
    """

    fit: Fit
    predicted_R: Float[np.ndarray, "R"]
    low_R: Float[np.ndarray, "R"]
    high_R: Float[np.ndarray, "R"]
    error_R: Float[np.ndarray, "R"]


class _Problem(NamedTuple):
    """What is minimized: the parameters are log levels, then exponents, as `names`."""

    names: tuple[str, ...]
    design_TRQ: Float[np.ndarray, "T R Q"]
    log_R: Float[np.ndarray, "R"]


def predict(
    law: str, coefficients: Mapping[str, float | np.ndarray], sizes: Sizes
) -> Float[np.ndarray, "*S R"]:
    """The loss of each run; with draws for coefficients, that of each by each draw.

    Raises:
      ValueError: no such law, or a size is missing or not above 0 and finite.

    >>> predict("power", {"E": 2.0, "A": 10.0, "alpha": 0.5}, {"N": [25, 100]}).tolist()
    [4.0, 3.0]
    """
    log_sizes = _log_sizes(law, sizes)
    column = {name: np.asarray(c)[..., None] for name, c in coefficients.items()}
    total = np.zeros(len(next(iter(log_sizes.values()))))
    for term in LAWS[law]:
        power = np.zeros(1)
        for size, (exponent, sign) in term.powers.items():
            power = power + sign * column[exponent] * log_sizes[size]
        total = total + column[term.level] * np.exp(power)
    return total


def objective(
    law: str, coefficients: Mapping[str, float], sizes: Sizes, loss_R: Losses
) -> float:
    """The mean over the runs of Huber's loss of log predicted - log measured."""
    log_R = np.log(_positive("loss", loss_R))
    return float(_huber(np.log(predict(law, coefficients, sizes)) - log_R).mean())


def fit(
    law: str, sizes: Sizes, loss_R: Losses, *, num_starts: int = 32, seed: int = 0
) -> Fit:
    """The best of L-BFGS from `num_starts` points, in float64.

    A start has exponents from 0 to 1, and of every term between a twentieth of the loss
    in the middle of the runs and all of it. A level that the runs do not show comes out
    at nearly 0.

    Raises:
      ValueError: no such law; a size or a loss that is not above 0 and finite (a run
        that diverged has no place on a law, and whoever leaves it out says so); no more
        runs than coefficients.
    """
    problem, middle = _problem(law, sizes, loss_R)
    rng = np.random.default_rng(seed)
    T, _, Q = problem.design_TRQ.shape
    levels = problem.log_R.mean() + rng.uniform(-3, 0, (num_starts, T))
    exponents = rng.uniform(0, 1, (num_starts, Q - T))
    starts = np.concatenate([levels, exponents], axis=1)
    ends = [_solved(problem, start) for start in starts]
    value, best_Q = min(ends, key=lambda end: end[0])
    named = dict(zip(problem.names, best_Q, strict=True))
    coefficients = _levels(law, named, middle, -1)
    return Fit(law, {name: float(c) for name, c in coefficients.items()}, value)


def bootstrap(
    fitted: Fit, sizes: Sizes, loss_R: Losses, *, num_draws: int = 200, seed: int = 0
) -> dict[str, Float[np.ndarray, "S"]]:
    """The coefficients, fitted anew to draws of the runs with replacement.

    Each fit starts where `fitted` is. What follows from the coefficients, a ratio or a
    prediction, follows draw by draw, and `interval` says between what it lies.
    """
    problem, middle = _problem(fitted.law, sizes, loss_R)
    named = _levels(fitted.law, fitted.coefficients, middle, +1)
    start_Q = np.array([named[name] for name in problem.names])
    rng = np.random.default_rng(seed)
    R = problem.log_R.size
    draws = []
    for draw_R in rng.integers(R, size=(num_draws, R)):
        drawn = problem._replace(
            design_TRQ=problem.design_TRQ[:, draw_R], log_R=problem.log_R[draw_R]
        )
        draws.append(_solved(drawn, start_Q)[1])
    columns = dict(zip(problem.names, np.transpose(draws), strict=True))
    return _levels(fitted.law, columns, middle, -1)


def interval(
    draws: Float[np.ndarray, "S *R"], confidence: float = 0.95
) -> Float[np.ndarray, "2 *R"]:
    """Between which values the middle share `confidence` of the draws lies.

    >>> interval(np.arange(101.0), 0.8).round(6).tolist()
    [10.0, 90.0]
    """
    tail = (1 - confidence) / 2
    return np.quantile(draws, [tail, 1 - tail], axis=0)


def extrapolate(
    law: str,
    sizes: Sizes,
    loss_R: Losses,
    held_R: Bool[np.ndarray, "R"],
    *,
    seed: int = 0,
) -> Extrapolation:
    """Fits the law to the runs that are not held out, and predicts those that are.

    Raises:
      ValueError: as `fit` does.
    """
    held_R = np.asarray(held_R, bool)
    loss_R = np.asarray(loss_R, float)
    every = {name: np.asarray(size, float) for name, size in sizes.items()}
    small = {name: size[~held_R] for name, size in every.items()}
    large = {name: size[held_R] for name, size in every.items()}
    fitted = fit(law, small, loss_R[~held_R], seed=seed)
    draws = bootstrap(fitted, small, loss_R[~held_R], seed=seed)
    low_R, high_R = interval(predict(law, draws, large))
    predicted_R = predict(law, fitted.coefficients, large)
    error_R = predicted_R / _positive("loss", loss_R[held_R]) - 1
    return Extrapolation(fitted, predicted_R, low_R, high_R, error_R)


def _problem(
    law: str, sizes: Sizes, loss_R: Losses
) -> tuple[_Problem, dict[str, float]]:
    """The problem in sizes relative to their geometric mean, and the logs of those."""
    log_sizes = _log_sizes(law, sizes)
    log_R = np.log(_positive("loss", loss_R))
    terms = LAWS[law]
    exponents = [name for term in terms for name, _ in term.powers.values()]
    names = (*(term.level for term in terms), *dict.fromkeys(exponents))
    T, R, Q = len(terms), log_R.size, len(names)
    if any(log_size.size != R for log_size in log_sizes.values()):
        raise ValueError(f"{R} losses need as many of each of {sorted(log_sizes)}.")
    if R <= Q:
        raise ValueError(f"{R} runs are too few for the {Q} coefficients of {law!r}.")
    middle = {size: float(log.mean()) for size, log in log_sizes.items()}
    design_TRQ = np.zeros((T, R, Q))
    for t, term in enumerate(terms):
        design_TRQ[t, :, t] = 1
        for size, (exponent, sign) in term.powers.items():
            q = names.index(exponent)
            design_TRQ[t, :, q] = sign * (log_sizes[size] - middle[size])
    return _Problem(names, design_TRQ, log_R), middle


def _log_sizes(law: str, sizes: Sizes) -> dict[str, np.ndarray]:
    terms = lookup(LAWS, law, "law")
    needed = dict.fromkeys(size for term in terms for size in term.powers)
    for size in needed:
        if size not in sizes:
            raise ValueError(f"{law!r} needs {size}, and has {sorted(sizes)}.")
    return {size: np.log(_positive(size, sizes[size])) for size in needed}


def _positive(name: str, value_R: Losses) -> np.ndarray:
    value_R = np.atleast_1d(np.asarray(value_R, float))
    for run in np.flatnonzero(~((value_R > 0) & (value_R < np.inf))):
        raise ValueError(f"{name}[{run}]={value_R[run]} must be above 0 and finite.")
    return value_R


def _huber(off_R: np.ndarray) -> np.ndarray:
    size_R = np.abs(off_R)
    return np.where(size_R > DELTA, DELTA * (size_R - DELTA / 2), size_R**2 / 2)


def _solved(problem: _Problem, start_Q: np.ndarray) -> tuple[float, np.ndarray]:
    """The objective where L-BFGS ends, and the parameters there.

    Log sum exp is written out, for scipy's takes six times as long on arrays so small.
    """
    _, design_TRQ, log_R = problem

    def value_and_grad(parameter_Q):
        log_TR = design_TRQ @ parameter_Q
        top_R = log_TR.max(axis=0)
        term_TR = np.exp(log_TR - top_R)
        off_R = top_R + np.log(term_TR.sum(axis=0)) - log_R
        slope_R = np.clip(off_R, -DELTA, DELTA) / log_R.size
        share_TR = term_TR / term_TR.sum(axis=0) * slope_R
        grad_Q = np.tensordot(share_TR, design_TRQ, axes=2)
        return _huber(off_R).mean() / DELTA**2, grad_Q / DELTA**2

    limits = dict(maxiter=5_000, maxfun=10_000, ftol=1e-10, gtol=1e-7)
    end = optimize.minimize(
        value_and_grad, start_Q, jac=True, method="L-BFGS-B", options=limits
    )
    return float(end.fun * DELTA**2), end.x


def _levels(law: str, named: Mapping, middle: Mapping[str, float], way: int) -> dict:
    """Coefficients of parameters (`way` -1), or parameters of coefficients (+1).

    They differ in the levels, which the problem has in logs and at the middle sizes.
    """
    changed = dict(named)
    for term in LAWS[law]:
        shift = sum(
            sign * named[exponent] * middle[size]
            for size, (exponent, sign) in term.powers.items()
        )
        level = named[term.level]
        changed[term.level] = (
            np.exp(level - shift) if way < 0 else np.log(level) + shift
        )
    return changed
