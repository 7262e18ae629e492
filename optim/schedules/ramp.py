"""A ramp through all rates: the test of which of them train."""

from typing import no_type_check

import optax
from jaxtyping import Array

from core.types import Number
from optim.schedules.phases import progress


@no_type_check
def range_test(
    *, peak: Number, start_share: Number = 1e-5, num_steps: int | Array
) -> optax.Schedule:
    """Rises from `start_share` of `peak` to it at the last step, by one factor a step.

    A run of it is a test: it logs every step, ends where training diverges, and then
    says in its summary and in `range_test.png` which rate it suggests. Choose a peak
    at which training fails. `start_share` lies in (0, 1).
    Source: Smith 2015, https://arxiv.org/abs/1506.01186, section 3.3, whose ramp is a
    line; by a factor as in fastai, for the range is of orders of magnitude.

    >>> rate = range_test(peak=1.0, num_steps=11)
    >>> [f"{rate(step):.0e}" for step in (0, 2, 10)]
    ['1e-05', '1e-04', '1e+00']
    """
    return lambda step: peak * start_share ** (1 - progress(step, 0, num_steps - 1))
