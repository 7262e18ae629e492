"""Who gets there soonest, over many workloads: time to target, profiles, their area.

With t_sw the cost at which method s reaches the target of workload w, and r_sw its
ratio to the least cost of any method,

  rho_s(tau) = share of the workloads with r_sw <= tau
  B_s = 1 / (r_max - 1) * integral of rho_s from 1 to r_max.

A target that is not reached costs inf: it lowers the share and is never left out. In
the names of arrays T are points of a curve and W workloads.

Source: Dolan & Moré 2002, https://arxiv.org/abs/cs/0102001, section 2; Dahl et al.
2023, https://arxiv.org/abs/2306.07179, section 4, the AlgoPerf benchmark.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MAX_RATIO = 4.0  # beyond it, AlgoPerf calls a target missed
NUM_POINTS = 100  # of AlgoPerf's own integral

# Cost to target by method, then by workload.
Times = Mapping[str, Mapping[str, float]]


class Speedup(NamedTuple):
    """Times faster than the reference, the geometric mean over `num_shared` workloads.

    Those are the ones that both reach; `num_missed` only the reference reaches, and
    `num_gained` only the other.
    """

    ratio: float
    num_shared: int
    num_missed: int
    num_gained: int


def time_to_target(
    cost_T: Sequence[float] | Float[np.ndarray, "T"],
    value_T: Sequence[float] | Float[np.ndarray, "T"],
    target: float,
    *,
    maximize: bool = False,
) -> float:
    """The cost at the first point as good as `target`; inf where none is.

    The unit is that of `cost_T`: steps, tokens, FLOPs or seconds. Nothing is read
    between two points, for nobody evaluated there. What is not finite reaches nothing.

    Raises:
      ValueError: the two differ in length, or the cost falls.

    >>> time_to_target([100, 200, 300], [3.1, 2.9, 2.7], target=2.9)
    200.0
    >>> time_to_target([100, 200], [3.1, float("nan")], target=2.9)
    inf
    """
    costs, values = np.asarray(cost_T, float), np.asarray(value_T, float)
    if costs.shape != values.shape or costs.ndim != 1:
        raise ValueError(
            f"A curve of {costs.size} costs and {values.size} values must have as many "
            "of each."
        )
    if not np.all(np.diff(costs) >= 0):
        raise ValueError("The costs of a curve must not fall from point to point.")
    reached = values >= target if maximize else values <= target
    hits = np.flatnonzero(reached & np.isfinite(values))
    return float(costs[hits[0]]) if hits.size else np.inf


def median_of_best(times: Sequence[Sequence[float]]) -> float:
    """Of studies with some trials each: the median study, each by its best trial.

    >>> median_of_best([[90.0, 70.0], [float("inf"), 80.0], [float("inf")]])
    80.0
    """
    return float(np.median([min(study, default=np.inf) for study in times]))


def ratios(times: Times) -> dict[str, dict[str, float]]:
    """Each cost over the least of its workload; inf where the target was missed.

    Raises:
      ValueError: a method lacks a workload that another has, or a cost is not above 0.

    >>> ratios({"adam": {"lm": 100.0}, "sgd": {"lm": 300.0}})
    {'adam': {'lm': 1.0}, 'sgd': {'lm': 3.0}}
    """
    workloads = list(dict.fromkeys(w for row in times.values() for w in row))
    for method, row in times.items():
        for workload in workloads:
            if workload not in row:
                raise ValueError(f"{method} has no {workload}; a miss is inf.")
            if not row[workload] > 0:
                raise ValueError(
                    f"{method}.{workload}={row[workload]} must be above 0; a miss is "
                    "inf."
                )
    best = {w: min(row[w] for row in times.values()) for w in workloads}
    return {
        method: {w: row[w] / best[w] if row[w] < np.inf else np.inf for w in workloads}
        for method, row in times.items()
    }


def profile(
    ratio_W: Sequence[float] | Float[np.ndarray, "W"],
    tau_T: Sequence[float] | Float[np.ndarray, "T"],
) -> Float[np.ndarray, "T"]:
    """rho(tau), the share of workloads within `tau` of the best.

    >>> profile([1.0, 2.0, float("inf")], [1.0, 2.0]).round(3).tolist()
    [0.333, 0.667]
    """
    within = np.asarray(ratio_W, float)[:, None] <= np.asarray(tau_T, float)[None, :]
    return within.mean(axis=0)


def area(
    ratio_W: Sequence[float] | Float[np.ndarray, "W"], max_ratio: float = MAX_RATIO
) -> float:
    """B, the exact area under the profile, from 0 to 1.

    The profile is a staircase: a workload counts from its ratio on, so B is the mean of
    what each has left to `max_ratio`.

    >>> area([1.0, 2.5, float("inf")])
    0.5
    """
    left = np.clip(max_ratio - np.asarray(ratio_W, float), 0, None)
    return float(np.mean(left) / (max_ratio - 1))


def trapezoid_area(
    ratio_W: Sequence[float] | Float[np.ndarray, "W"],
    max_ratio: float = MAX_RATIO,
    num_points: int = NUM_POINTS,
) -> float:
    """B as AlgoPerf computes it, by trapezoids over points at equal distances.

    A step between two points is smeared over both, so this is off by up to half a
    distance, 1 / (2 (num_points - 1)), in the mean over workloads.

    >>> round(trapezoid_area([1.0, 2.5, float("inf")]), 4)
    0.5
    """
    taus = np.linspace(1, max_ratio, num_points)
    return float(np.trapezoid(profile(ratio_W, taus), taus) / (max_ratio - 1))


def geometric_speedup(times: Times, method: str, reference: str) -> Speedup:
    """How many times sooner `method` is than `reference`, and what that leaves out.

    >>> times = {"adam": {"lm": 8.0, "mt": 9.0}, "sgd": {"lm": 2.0, "mt": float("inf")}}
    >>> geometric_speedup(times, "sgd", "adam")
    Speedup(ratio=4.0, num_shared=1, num_missed=1, num_gained=0)
    """
    ratios(times)  # for its refusals
    pairs = np.array([(times[method][w], times[reference][w]) for w in times[method]])
    ours, theirs = np.isfinite(pairs).T
    shared = pairs[ours & theirs]
    logs = np.log(shared[:, 1] / shared[:, 0])
    return Speedup(
        float(np.exp(logs.mean())) if logs.size else np.nan,
        len(shared),
        int((theirs & ~ours).sum()),
        int((ours & ~theirs).sum()),
    )
