"""How records of the NanoGPT speedrun show that they are some.

Source: https://github.com/KellerJordan/modded-nanogpt: the rules of track 1, and of
records/track_3_optimization/README.md those on significance. Track 3 takes a standard
deviation of .0013 for known and says p < .001; .004 / .0013 is 3.08 of them, of which
the p is .00104.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from study.intervals import estimate

TARGET = 3.28  # nats a token of FineWeb's validation part
ENOUGH = 0.004  # of either margin
LOSS_PER_STEP = 0.000045  # what one step more is worth near the end of a run


def track1_p(losses: Sequence[float]) -> float:
    """The p-value that the mean loss is below the target; track 1 asks for .01.

    1 where there is no t-test, of one run or with one that diverged.
    """
    if len(losses) < 2 or not np.isfinite(losses).all():
        return 1.0
    mean, error, freedom = estimate(np.asarray(losses))
    if error == 0:
        return 0.0 if mean < TARGET else 1.0
    return float(stats.t.cdf((mean - TARGET) / error, freedom))


def track3_margin(mean_loss: float, num_runs: int) -> float:
    """(3.28 - mean) sqrt(n), which must be .004: the mean is below the target.

    >>> round(track3_margin(3.2776, 4), 4)
    0.0048
    """
    return (TARGET - mean_loss) * math.sqrt(num_runs)


def track3_pair_margin(
    loss_drop: float, steps_saved: float, num_old: int, num_new: int
) -> float:
    """How far a record is above another, in their unit; it must be .004 as well.

        (loss drop + .000045 steps saved) / sqrt(1 / n_old + 1 / n_new)

    >>> round(track3_pair_margin(0.0, 15, 16, 10), 5)
    0.00167
    """
    worth = loss_drop + LOSS_PER_STEP * steps_saved
    return worth / math.sqrt(1 / num_old + 1 / num_new)
