"""Learning rates: step -> rate, for the steps 0 to num_steps - 1.

A warmup reaches `peak` at its last step and starts above zero; a decay ends at
step `num_steps`, one past the last, so no step of a run is spent at rate zero.
`num_steps` is the length of the run. Counts and numbers may all be tracers.
"""

import math
from typing import no_type_check

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike

from core.types import Number

# A config may hold an `int` for a count, and nothing else: so the annotations say. The
# program is given tracers for them, which a type checker at test time would refuse.


@no_type_check
def constant(
    *, peak: Number, warmup_steps: int, num_steps: int | Array
) -> optax.Schedule:
    """Rises linearly to `peak`, stays there.

    >>> rate = constant(peak=1.0, warmup_steps=4, num_steps=100)
    >>> [float(rate(step)) for step in (0, 1, 3, 99)]
    [0.25, 0.5, 1.0, 1.0]
    """
    del num_steps
    return lambda step: peak * _rise(step, warmup_steps)


@no_type_check
def linear(
    *,
    peak: Number,
    warmup_steps: int,
    final_share: Number = 0.0,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, falls linearly to `final_share * peak`.

    Source: Bergsma et al. 2025, https://arxiv.org/abs/2502.15938, who find an end at
    zero best.

    >>> rate = linear(peak=1.0, warmup_steps=2, num_steps=10)
    >>> [float(rate(step)) for step in (0, 1, 2, 4, 10)]
    [0.5, 1.0, 1.0, 0.75, 0.0]
    """

    def rate(step):
        fall = _progress(step, warmup_steps, num_steps)
        share = 1 - (1 - final_share) * fall
        return peak * _rise(step, warmup_steps) * share

    return rate


@no_type_check
def cosine(
    *,
    peak: Number,
    warmup_steps: int,
    final_share: Number = 0.0,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, falls to `final_share * peak` as half a cosine.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5,
    without restarts; the warmup is ours.

    >>> rate = cosine(peak=1.0, warmup_steps=2, num_steps=10)
    >>> [round(float(rate(step)), 2) for step in (0, 1, 2, 4, 6, 10)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.0]
    """

    def rate(step):
        fall = _progress(step, warmup_steps, num_steps)
        share = final_share + (1 - final_share) * (1 + jnp.cos(jnp.pi * fall)) / 2
        return peak * _rise(step, warmup_steps) * share

    return rate


@no_type_check
def inverse_sqrt(
    *, peak: Number, warmup_steps: int, num_steps: int | Array
) -> optax.Schedule:
    """Rises linearly to `peak`, falls as 1 / sqrt(step), and has no end.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 3, whose
    factor width^-0.5 is `peak = (width * warmup_steps) ** -0.5` here.

    >>> rate = inverse_sqrt(peak=1.0, warmup_steps=4, num_steps=100)
    >>> [float(rate(step)) for step in (0, 1, 3, 15, 63)]
    [0.25, 0.5, 1.0, 0.5, 0.25]
    """
    del num_steps

    def rate(step):
        fall = jnp.sqrt(jnp.maximum(warmup_steps, 1) / (step + 1))
        return peak * jnp.minimum(_rise(step, warmup_steps), fall)

    return rate


@no_type_check
def warmup_stable_decay(
    *, peak: Number, warmup_steps: int, decay_steps: int, num_steps: int | Array
) -> optax.Schedule:
    """Rises linearly to `peak`, stays there, ends as 1 - sqrt(progress) at zero.

    Source: Hägele et al. 2024, https://arxiv.org/abs/2405.18392, section 3.

    >>> shape = dict(warmup_steps=10, decay_steps=40, num_steps=100)
    >>> rate = warmup_stable_decay(peak=1.0, **shape)
    >>> [round(float(rate(step)), 2) for step in (0, 4, 9, 60, 70, 100)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def rate(step):
        fall = _progress(step, num_steps - decay_steps, num_steps)
        return peak * _rise(step, warmup_steps) * (1 - jnp.sqrt(fall))

    return rate


def _rise(step: ArrayLike, warmup_steps: ArrayLike) -> Array:
    """Share of the peak in the warmup, 1 after it."""
    return jnp.minimum(1.0, jnp.add(step, 1) / jnp.maximum(warmup_steps, 1))


def _progress(step: ArrayLike, start: ArrayLike, end: ArrayLike) -> Array:
    """0 until step `start`, 1 from step `end` on."""
    length = jnp.maximum(jnp.subtract(end, start), 1)
    return jnp.clip(jnp.subtract(step, start) / length, 0.0, 1.0)


def check_steps(*, num_steps: int | float = math.inf, **options) -> None:
    """Refuses a warmup and a decay that are longer together than the run.

    In a run of unknown length they fit.

    Raises:
      ValueError: they do not fit.
    """
    steps = {key: value for key, value in options.items() if key.endswith("_steps")}
    if sum(steps.values()) > num_steps:
        named = " and ".join(f"{key}={value}" for key, value in steps.items())
        verb = "do" if len(steps) > 1 else "does"
        raise ValueError(f"{named} {verb} not fit in num_steps={num_steps}.")
