"""The Halton sequence of AlgoPerf: a van der Corput sequence for each dimension.

In base p, the digits of n are permuted and mirrored behind the point, and all are
shifted by one number, modulo 1:

    x_n = (sum_k permuted(digit_k(n)) p^-(k + 1) + shift) mod 1

The first 100 points are left out, for they are alike in high bases. Permutation (0
stays) and shift come from a Mersenne Twister seeded with p. The bases are neighbours,
the largest primes below 1,000 but for the very largest.

Source: Bousquet et al. 2017, https://arxiv.org/abs/1706.03200, section 3; bases, skip
and seeds are those of github.com/mlcommons/algorithmic-efficiency, `halton.py`.
"""

import numpy as np
from jaxtyping import Float

SKIPPED = 100


def halton_sequence(
    count: int, num_axes: int, first: int = 0
) -> Float[np.ndarray, "count num_axes"]:
    """The points from number `first` on, in [0, 1)^num_axes.

    >>> halton_sequence(2, 1).round(4).tolist()
    [[0.2861], [0.83]]
    """
    number = np.arange(count) + SKIPPED + first + 1
    columns = [_column(number, base) for base in _bases(num_axes)]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


def _column(number: np.ndarray, base: int) -> np.ndarray:
    # The legacy generator: NumPy promises that its numbers never change.
    twister = np.random.RandomState(base)
    digits = [*range(1, base)]
    twister.shuffle(digits)
    permuted = np.array([0, *digits], np.float64)
    shift = twister.random_sample()
    share, weight = np.zeros(len(number)), float(base)
    while number.any():
        share += permuted[number % base] / weight
        number, weight = number // base, weight * base
    return np.fmod(share + shift, 1.0)


def _bases(count: int) -> list[int]:
    """So many neighbouring primes, the largest but one below a multiple of 1,000."""
    limit, odd = 0, []
    while len(odd) < count + 1:
        limit += 1_000
        sieve = np.ones(limit, bool)
        for number in range(2, int(limit**0.5) + 1):
            sieve[number * number :: number] = False
        odd = np.flatnonzero(sieve)[3:].tolist()  # without 0, 1 and 2
    return odd[-count - 1 : -1]
