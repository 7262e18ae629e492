"""Scores of runs as losses: less is better, and a run that diverged has lost all.

In the names of arrays R are runs, here and in what compares them; Q are those of a
second arm that has another number of them.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from core.refusal import nearest, shown

Better = Literal["lower", "higher"]


def losses_of(scores: Sequence[float], better: Better) -> Float[np.ndarray, "R"]:
    """The scores with the sign that makes less the better; +inf of a diverged run.

    A score that is not finite is none: NaN and infinities of either sign diverged.

    Raises:
      ValueError: `better` is neither.

    >>> losses_of([21.5, float("nan")], "higher")
    array([-21.5,   inf])
    """
    if better not in ("lower", "higher"):
        known = ["higher", "lower"]
        raise ValueError(
            f"better={shown(better)} is not known.{nearest(better, known)} "
            f"Known: {known}."
        )
    score_R = np.asarray(scores, np.float64)
    signed_R = score_R if better == "lower" else -score_R
    return np.where(np.isfinite(score_R), signed_R, np.inf)


def gains_of(
    baseline_R: Float[np.ndarray, "R"], candidate_R: Float[np.ndarray, "R"]
) -> Float[np.ndarray, "R"]:
    """By how much the candidate is better in each pair of losses.

    Infinite where one of the two diverged, and 0 where both did: such a pair says
    nothing of which is better.

    >>> import numpy as np
    >>> gains_of(np.array([2.5, np.inf, np.inf]), np.array([2.0, 2.0, np.inf]))
    array([0.5, inf, 0. ])
    """
    both_R = np.isinf(baseline_R) & np.isinf(candidate_R)
    return np.where(both_R, 0, baseline_R) - np.where(both_R, 0, candidate_R)
