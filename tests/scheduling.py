"""Schedules, built of numbers of any kind and asked for the rate of every step."""

import functools

import jax
import jax.numpy as jnp

from core.registry import build
from optim import SCHEDULES

NUM_STEPS = 20

# Values of all keys, and others; a schedule has its own of them. The two of noam's keys
# that are not here have the same peak.
SHAPE = dict(
    peak=2.0,
    warmup_steps=4,
    decay_steps=5,
    final_share=0.25,
    power=1.5,
    width=1,
    scale=4.0,
    every_steps=6,
    factor=0.5,
    boundary_shares=(0.3, 0.7),
    level_shares=(1.0, 0.5),
    rise_share=0.4,
    start_share=0.1,
    period_steps=6,
    growth=2,
    restart_share=0.5,
    low_share=0.2,
    rise_steps=3,
    fall_steps=5,
)
OTHER = dict(
    peak=0.5,
    warmup_steps=2,
    decay_steps=9,
    final_share=0.125,
    power=3.0,
    width=4,
    scale=1.0,
    every_steps=3,
    factor=0.25,
    boundary_shares=(0.1, 0.4),
    level_shares=(0.75, 0.25),
    rise_share=0.2,
    start_share=0.3,
    period_steps=4,
    growth=1,
    restart_share=0.75,
    low_share=0.1,
    rise_steps=4,
    fall_steps=2,
)


def options_of(name, shape=SHAPE, **changed):
    return {key: (shape | changed)[key] for key in SCHEDULES[name].ranges}


def rates(name, options, num_steps=NUM_STEPS, until=NUM_STEPS):
    """The rates of steps 0 to `until`, which is one more than the run has."""
    rate = build(SCHEDULES, dict(options, name=name), num_steps=num_steps)
    return every(rate, jnp.arange(until + 1))


def every(rate, steps):
    """Jitted, for op by op it takes longer than to compile."""
    return jax.jit(jax.vmap(rate))(steps)


@functools.cache
def compiled(name):
    return jax.jit(lambda options: rates(name, options, until=3 * NUM_STEPS))
