"""Rates that fall in steps, or go from point to point."""

from typing import Literal, no_type_check

import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.types import Number
from optim.schedules.phases import check_steps, rise


@no_type_check
def step_decay(
    *,
    peak: Number,
    warmup_steps: int,
    every_steps: int,
    factor: Number = 0.1,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, then is multiplied by `factor` every so many steps.

    As PyTorch's StepLR, counted from the end of the warmup. `factor` lies in (0, 1].

    >>> rate = step_decay(peak=1.0, warmup_steps=0, every_steps=4, num_steps=12)
    >>> [round(float(rate(step)), 3) for step in (0, 3, 4, 7, 8)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    del num_steps

    def rate(step):
        passed = jnp.maximum(step - warmup_steps, 0) // every_steps
        return peak * rise(step, warmup_steps) * factor**passed

    return rate


@no_type_check
def multistep(
    *,
    peak: Number,
    warmup_steps: int,
    boundary_shares: tuple[Number, ...] = (0.5, 0.75),
    factor: Number = 0.1,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, is multiplied by `factor` at each of the boundaries.

    These are shares of the run, rounded to whole steps: PyTorch's MultiStepLR with
    milestones at round(share num_steps). `factor` lies in (0, 1].
    Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2, who divide
    the rate by 10 at a half and at three quarters of the run.

    >>> rate = multistep(peak=1.0, warmup_steps=0, num_steps=20)
    >>> [round(float(rate(step)), 3) for step in (0, 9, 10, 14, 15)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    boundaries = jnp.round(jnp.asarray(boundary_shares) * num_steps)

    def rate(step):
        passed = jnp.sum(step >= boundaries)
        return peak * rise(step, warmup_steps) * factor**passed

    return rate


@no_type_check
def piecewise(
    *,
    peak: Number,
    warmup_steps: int,
    boundary_shares: tuple[Number, ...],
    level_shares: tuple[Number, ...],
    shape: Literal["linear", "cosine"] = "linear",
    num_steps: int | Array,
) -> optax.Schedule:
    """Goes through points: `level_shares` of `peak` at `boundary_shares` of the run.

    Between two points as a line or half a cosine; before the first and after the last
    at their levels. The warmup multiplies this.

    >>> points = dict(boundary_shares=(0.2, 0.6), level_shares=(1.0, 0.5))
    >>> rate = piecewise(peak=1.0, warmup_steps=0, **points, num_steps=10)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 6, 9)]
    [1.0, 1.0, 0.75, 0.5, 0.5]
    """
    boundaries, levels = jnp.asarray(boundary_shares), jnp.asarray(level_shares)
    numbers = jnp.arange(len(boundaries), dtype=boundaries.dtype)

    def rate(step):
        place = jnp.interp(step / num_steps, boundaries, numbers)
        if shape == "cosine":
            before = jnp.floor(place)
            place = before + (1 - jnp.cos(jnp.pi * (place - before))) / 2
        return peak * rise(step, warmup_steps) * jnp.interp(place, numbers, levels)

    return rate


def check_points(
    *,
    boundary_shares: tuple[float, ...],
    level_shares: tuple[float, ...],
    **options,
) -> None:
    """`check_steps`, and refuses what is no list of points from left to right.

    Raises:
      ValueError: the warmup does not fit, or the points do not follow one another.
    """
    check_steps(**options)
    if len(boundary_shares) != len(level_shares) or not boundary_shares:
        raise ValueError(
            f"{boundary_shares=} and {level_shares=} must be as many, and one at least."
        )
    if list(boundary_shares) != sorted(set(boundary_shares)):
        raise ValueError(f"{boundary_shares=} must rise.")
