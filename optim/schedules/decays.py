"""One fall over the whole run, after a warmup."""

from typing import no_type_check

import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.types import Number
from optim.schedules.phases import progress, rise


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
    return lambda step: peak * rise(step, warmup_steps)


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
        fall = progress(step, warmup_steps, num_steps)
        share = 1 - (1 - final_share) * fall
        return peak * rise(step, warmup_steps) * share

    return rate


@no_type_check
def polynomial(
    *,
    peak: Number,
    warmup_steps: int,
    power: Number = 2.0,
    final_share: Number = 0.0,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, falls as (1 - progress)^power to `final_share * peak`.

    `power` lies in (0, inf); 1 is `linear`.
    Source: Chen et al. 2018, https://arxiv.org/abs/1606.00915, section 4.1 ("poly").

    >>> rate = polynomial(peak=1.0, warmup_steps=2, num_steps=10)
    >>> [float(rate(step)) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.25, 0.0]
    """

    def rate(step):
        left = 1 - progress(step, warmup_steps, num_steps)
        share = final_share + (1 - final_share) * left**power
        return peak * rise(step, warmup_steps) * share

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
        fall = progress(step, warmup_steps, num_steps)
        share = final_share + (1 - final_share) * (1 + jnp.cos(jnp.pi * fall)) / 2
        return peak * rise(step, warmup_steps) * share

    return rate


@no_type_check
def exponential(
    *,
    peak: Number,
    warmup_steps: int,
    final_share: Number = 0.01,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, falls by one factor a step to `final_share * peak`.

    The factor is final_share^(1 / steps of the fall). `final_share` lies in (0, 1].

    >>> rate = exponential(peak=1.0, warmup_steps=2, num_steps=10)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.1, 0.01]
    """

    def rate(step):
        fall = progress(step, warmup_steps, num_steps)
        return peak * rise(step, warmup_steps) * final_share**fall

    return rate


@no_type_check
def rex(
    *,
    peak: Number,
    warmup_steps: int,
    final_share: Number = 0.0,
    num_steps: int | Array,
) -> optax.Schedule:
    """Rises linearly to `peak`, falls slowly at first and fast in the end.

    share = z / (1/2 + z/2), z = 1 - progress: an exponential decay, reflected.
    Source: Chen et al. 2021, https://arxiv.org/abs/2107.04197, section 3; the warmup
    and an end above zero are ours.

    >>> rate = rex(peak=1.0, warmup_steps=2, num_steps=10)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 6, 8, 10)]
    [0.5, 1.0, 1.0, 0.667, 0.4, 0.0]
    """

    def rate(step):
        left = 1 - progress(step, warmup_steps, num_steps)
        share = final_share + (1 - final_share) * 2 * left / (1 + left)
        return peak * rise(step, warmup_steps) * share

    return rate


@no_type_check
def inverse_sqrt(
    *, peak: Number, warmup_steps: int, num_steps: int | Array
) -> optax.Schedule:
    """Rises linearly to `peak`, falls as 1 / sqrt(step), and has no end.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 3, with a
    peak of its own; `noam` takes it from the width, as they do.

    >>> rate = inverse_sqrt(peak=1.0, warmup_steps=4, num_steps=100)
    >>> [float(rate(step)) for step in (0, 1, 3, 15, 63)]
    [0.25, 0.5, 1.0, 0.5, 0.25]
    """
    del num_steps

    def rate(step):
        fall = jnp.sqrt(jnp.maximum(warmup_steps, 1) / (step + 1))
        return peak * jnp.minimum(rise(step, warmup_steps), fall)

    return rate


@no_type_check
def noam(
    *, width: int, warmup_steps: int, scale: Number = 1.0, num_steps: int | Array
) -> optax.Schedule:
    """scale width^-0.5 min(t^-0.5, t warmup_steps^-1.5), t = step + 1.

    That is `inverse_sqrt` of the peak scale / sqrt(width * warmup_steps). `width` is
    the model's, as a rule: `get_ref("width")` in a config.
    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 3.

    >>> rate = noam(width=16, warmup_steps=4, num_steps=100)
    >>> [float(rate(step)) for step in (0, 3, 15)]
    [0.03125, 0.125, 0.0625]
    """
    # Two roots: the product of the two counts may be more than an int32 holds.
    start = jnp.sqrt(jnp.maximum(warmup_steps, 1) / 1.0) * jnp.sqrt(width / 1.0)
    peak = scale / start
    return inverse_sqrt(peak=peak, warmup_steps=warmup_steps, num_steps=num_steps)
