"""Rates that rise again: one cycle over the run, or several."""

from typing import Literal, no_type_check

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.types import Number
from optim.schedules.phases import rise

LARGEST = 2**31 - 1


@no_type_check
def one_cycle(
    *,
    peak: Number,
    rise_share: Number = 0.3,
    start_share: Number = 0.04,
    final_share: Number = 4e-6,
    shape: Literal["cosine", "linear"] = "cosine",
    three_phases: bool = False,
    num_steps: int | Array,
) -> optax.Schedule:
    """From `start_share` of `peak` up to it and down to `final_share`, in the run.

    With `three_phases` it comes down to the start as fast as it rose, and from there
    to the end. The peak is at step rise_share num_steps - 1 and the end at the last
    step: PyTorch's OneCycleLR, whose div_factor is 1 / start_share and whose
    final_div_factor is start_share / final_share. So it departs from the other
    schedules, which end one past the last step; all shares are above zero.
    Source: Smith & Topin 2017, https://arxiv.org/abs/1708.07120, section 3.

    >>> rate = one_cycle(peak=1.0, rise_share=0.5, start_share=0.5, num_steps=10)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 9)]
    [0.5, 0.75, 1.0, 0.0]
    """
    top = rise_share * num_steps - 1
    back = 2 * top

    def rate(step):
        def between(start, end, first, last):
            length = jnp.where(last > first, last - first, 1)
            way = jnp.clip((step - first) / length, 0.0, 1.0)
            if shape == "cosine":
                way = (1 - jnp.cos(jnp.pi * way)) / 2
            return start + (end - start) * way

        up = between(start_share, 1.0, 0, top)
        down = between(1.0, final_share, top, num_steps - 1)
        if three_phases:
            return_way = between(1.0, start_share, top, back)
            rest = between(start_share, final_share, back, num_steps - 1)
            down = jnp.where(step <= back, return_way, rest)
        return peak * jnp.where(step <= top, up, down)

    return rate


def check_cycle(
    *, rise_share: float = 0.3, three_phases: bool = False, **options
) -> None:
    """Refuses a rise and a way back that take more than the run.

    Raises:
      ValueError: there are three phases, and the first is more than half of the run.
    """
    del options
    if three_phases and rise_share > 0.5:
        raise ValueError(f"{rise_share=} must be at most 0.5 for {three_phases=}.")


@no_type_check
def cosine_restarts(
    *,
    peak: Number,
    warmup_steps: int,
    period_steps: int,
    growth: int = 1,
    restart_share: Number = 1.0,
    low_share: Number = 0.0,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, then falls again and again as half a cosine.

    The first fall takes `period_steps`, each later one `growth` times that before it.
    Each ends at `low_share * peak` and the next starts at `restart_share` of where it
    started. As PyTorch's CosineAnnealingWarmRestarts, after the warmup.
    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5.

    >>> falls = dict(period_steps=4, growth=2, restart_share=0.5)
    >>> rate = cosine_restarts(peak=1.0, warmup_steps=0, **falls, num_steps=12)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 8)]
    [1.0, 0.5, 0.5, 0.25]
    """
    del num_steps

    def rate(step):
        place, period, number = _cycle(
            jnp.maximum(step - warmup_steps, 0), period_steps, growth
        )
        height = jnp.maximum(restart_share**number, low_share) - low_share
        share = low_share + height * (1 + jnp.cos(jnp.pi * place / period)) / 2
        return peak * rise(step, warmup_steps) * share

    return rate


@no_type_check
def _cycle(step, period_steps, growth):
    """Of the cycle that holds `step`: the place in it, its length, its number.

    Whole numbers throughout: by a logarithm a restart would come a step too late where
    it is rounded down.
    """
    # Cycles of one length are counted at once, longer ones are at most 31.
    number = jnp.where(growth == 1, step // period_steps, 0)
    first = (step - number * period_steps, jnp.asarray(period_steps), number)

    def longer(cycle):
        place, period, number = cycle
        fits = period <= LARGEST // growth
        return place - period, jnp.where(fits, period * growth, LARGEST), number + 1

    return jax.lax.while_loop(lambda cycle: cycle[0] >= cycle[1], longer, first)


@no_type_check
def cyclic(
    *,
    peak: Number,
    rise_steps: int,
    fall_steps: int,
    low_share: Number = 0.25,
    factor: Number = 1.0,
    smooth: bool = False,
    num_steps: int | Array,
) -> optax.Schedule:
    """Lines from `low_share` of `peak` up to it and down again, without end.

    The height of a triangle is `factor` times that of the one before, or with `smooth`
    falls so at every step. PyTorch's CyclicLR: `triangular` has the factor 1,
    `triangular2` 0.5, and `exp_range` is smooth with gamma^(rise_steps + fall_steps).
    `factor` and `low_share` lie in (0, 1].
    Source: Smith 2015, https://arxiv.org/abs/1506.01186, section 3.1.

    >>> lines = dict(rise_steps=2, fall_steps=4, factor=0.5)
    >>> rate = cyclic(peak=1.0, **lines, num_steps=12)
    >>> [float(rate(step)) for step in (0, 2, 4, 6, 8)]
    [0.25, 1.0, 0.625, 0.25, 0.625]
    """
    del num_steps

    def rate(step):
        period = rise_steps + fall_steps
        place = step % period
        up, down = place / rise_steps, (period - place) / fall_steps
        turns = step / period if smooth else step // period
        height = jnp.where(place <= rise_steps, up, down) * factor**turns
        return peak * (low_share + (1 - low_share) * height)

    return rate
