"""Scores of runs as losses: less is better, and a run that diverged has lost all."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from core.refusal import nearest, shown

Better = Literal["lower", "higher"]


def losses_of(scores: Sequence[float], better: Better) -> np.ndarray:
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
    found = np.asarray(scores, np.float64)
    signed = found if better == "lower" else -found
    return np.where(np.isfinite(found), signed, np.inf)


def gains_of(baseline: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """By how much the candidate is better in each pair of losses.

    Infinite where one of the two diverged, and 0 where both did: such a pair says
    nothing of which is better.

    >>> import numpy as np
    >>> gains_of(np.array([2.5, np.inf, np.inf]), np.array([2.0, 2.0, np.inf]))
    array([0.5, inf, 0. ])
    """
    both = np.isinf(baseline) & np.isinf(candidate)
    return np.where(both, 0, baseline) - np.where(both, 0, candidate)
