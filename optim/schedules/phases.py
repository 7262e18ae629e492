"""What schedules are made of: a rise to the peak, the progress of a fall.

A schedule is a function from the step, 0 to num_steps - 1, to the rate. A warmup
reaches the peak at its last step and starts above zero; a fall ends at step
`num_steps`, one past the last, so no step of a run is spent at rate zero.

A config may hold an `int` for a count, and nothing else: so the annotations say. The
program is given tracers for counts as for numbers, which a type checker at test time
would refuse: hence `no_type_check` on every schedule.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike


def rise(step: ArrayLike, warmup_steps: ArrayLike) -> Array:
    """Share of the peak in the warmup, 1 after it."""
    return jnp.minimum(1.0, jnp.add(step, 1) / jnp.maximum(warmup_steps, 1))


def progress(step: ArrayLike, start: ArrayLike, end: ArrayLike) -> Array:
    """0 until step `start`, 1 from step `end` on."""
    length = jnp.maximum(jnp.subtract(end, start), 1)
    return jnp.clip(jnp.subtract(step, start) / length, 0.0, 1.0)


def check_steps(*, num_steps: int | float = math.inf, **options) -> None:
    """Refuses phases (`..._steps`) that are longer together than the run.

    In a run of unknown length they fit.

    Raises:
      ValueError: they do not fit.
    """
    steps = {key: value for key, value in options.items() if key.endswith("_steps")}
    if sum(steps.values()) > num_steps:
        named = " and ".join(f"{key}={value}" for key, value in steps.items())
        verb = "do" if len(steps) > 1 else "does"
        raise ValueError(f"{named} {verb} not fit in num_steps={num_steps}.")
