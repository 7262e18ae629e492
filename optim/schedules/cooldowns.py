"""A plateau at the peak, and a fall over the last steps of the run."""

from typing import Literal, no_type_check

import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.types import Number
from optim.schedules.phases import check_steps, progress, rise

# What is left of the way from the peak to the end, at a share x of the fall.
SHAPES = {
    "1-sqrt": lambda x: 1 - jnp.sqrt(x),
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + jnp.cos(jnp.pi * x)) / 2,
    "mirror_cosine": lambda x: 2 * (1 - x) - (1 + jnp.cos(jnp.pi * x)) / 2,
    "square": lambda x: 1 - x**2,
}


@no_type_check
def warmup_stable_decay(
    *,
    peak: Number,
    warmup_steps: int,
    decay_steps: int,
    shape: Literal[
        "1-sqrt", "linear", "cosine", "mirror_cosine", "square", "exponential"
    ] = "1-sqrt",
    final_share: Number = 0.0,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, stays there, falls in `decay_steps` to its end.

    The end is `final_share * peak`; an exponential one needs an end above zero.
    `mirror_cosine` is the cosine, mirrored at the line between the same points.
    Source: Hägele et al. 2024, https://arxiv.org/abs/2405.18392, section 3 and
    appendix B.1, who find 1 - sqrt(progress) best.

    >>> phases = dict(warmup_steps=10, decay_steps=40, num_steps=100)
    >>> rate = warmup_stable_decay(peak=1.0, **phases)
    >>> [round(float(rate(step)), 2) for step in (0, 4, 9, 60, 70, 100)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def rate(step):
        fall = progress(step, num_steps - decay_steps, num_steps)
        if shape == "exponential":
            share = final_share**fall
        else:
            share = final_share + (1 - final_share) * SHAPES[shape](fall)
        return peak * rise(step, warmup_steps) * share

    return rate


@no_type_check
def power_cool(
    *,
    peak: Number,
    warmup_steps: int,
    decay_steps: int,
    power: Number = 1.2,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, and is min(peak, c (num_steps - step)^power).

    c is such that the two meet `decay_steps` before the end: peak decay_steps^-power.
    `power` lies in (0, inf).

    >>> phases = dict(warmup_steps=10, decay_steps=40, power=2.0, num_steps=100)
    >>> rate = power_cool(peak=1.0, **phases)
    >>> [round(float(rate(step)), 2) for step in (0, 9, 60, 80, 100)]
    [0.1, 1.0, 1.0, 0.25, 0.0]
    """

    def rate(step):
        left = 1 - progress(step, num_steps - decay_steps, num_steps)
        return peak * rise(step, warmup_steps) * left**power

    return rate


def check_shape(*, shape: str = "1-sqrt", final_share: float = 0.0, **options) -> None:
    """`check_steps`, and refuses an exponential fall to zero, which never gets there.

    Raises:
      ValueError: the phases do not fit, or the end is zero.
    """
    check_steps(**options)
    if shape == "exponential" and final_share == 0:
        raise ValueError(f"{final_share=} must be more than 0 for {shape=}.")
