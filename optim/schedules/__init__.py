"""Schedules. A new one is a function in a file here and a line in SCHEDULES."""

import optax
from jaxtyping import Array

from core.registry import Entry, Note, Range
from core.types import Number
from optim.schedules import cooldowns, cycles, decays, ramp, stairs
from optim.schedules.phases import check_steps

PEAK = Range("(0, inf)")
STEPS = Range("[0, 2147483647]")
PERIOD = Range("[1, 2147483647]")
SHARE = Range("[0, 1]")
ABOVE_ZERO = Range("(0, 1]")
POWER = Range("(0, inf)")

RISE = {"peak": PEAK, "warmup_steps": STEPS}
COOLDOWN = RISE | {"decay_steps": STEPS}

PROOF = Note("tests/test_optim_schedules.py")

SCHEDULES = {
    "constant": Entry(
        decays.constant, "Robbins & Monro 1951", RISE, check_steps, note=PROOF
    ),
    "linear": Entry(
        decays.linear,
        "Bergsma et al. 2025, https://arxiv.org/abs/2502.15938",
        RISE | {"final_share": SHARE},
        check_steps,
        note=PROOF,
    ),
    "polynomial": Entry(
        decays.polynomial,
        "Chen et al. 2018, https://arxiv.org/abs/1606.00915",
        RISE | {"power": POWER, "final_share": SHARE},
        check_steps,
        note=PROOF,
    ),
    "cosine": Entry(
        decays.cosine,
        "Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983",
        RISE | {"final_share": SHARE},
        check_steps,
        note=PROOF,
    ),
    "exponential": Entry(
        decays.exponential,
        "Li & Arora 2020, https://arxiv.org/abs/1910.07454",
        RISE | {"final_share": ABOVE_ZERO},
        check_steps,
        note=PROOF,
    ),
    "rex": Entry(
        decays.rex,
        "Chen et al. 2021, https://arxiv.org/abs/2107.04197",
        RISE | {"final_share": SHARE},
        check_steps,
        note=PROOF,
    ),
    "inverse_sqrt": Entry(
        decays.inverse_sqrt,
        "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        RISE,
        check_steps,
        note=PROOF,
    ),
    "noam": Entry(
        decays.noam,
        "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        {"width": PERIOD, "warmup_steps": STEPS, "scale": PEAK},
        check_steps,
        note=PROOF,
    ),
    "wsd": Entry(
        cooldowns.warmup_stable_decay,
        "Hägele et al. 2024, https://arxiv.org/abs/2405.18392",
        COOLDOWN | {"final_share": SHARE},
        cooldowns.check_shape,
        note=PROOF,
    ),
    "power_cool": Entry(
        cooldowns.power_cool,
        "",
        COOLDOWN | {"power": POWER},
        check_steps,
        note=PROOF,
    ),
    "step": Entry(
        stairs.step_decay,
        "Ge et al. 2019, https://arxiv.org/abs/1904.12838",
        RISE | {"every_steps": PERIOD, "factor": ABOVE_ZERO},
        check_steps,
        note=PROOF,
    ),
    "multistep": Entry(
        stairs.multistep,
        "He et al. 2016, https://arxiv.org/abs/1512.03385",
        RISE | {"boundary_shares": SHARE, "factor": ABOVE_ZERO},
        check_steps,
        note=PROOF,
    ),
    "piecewise": Entry(
        stairs.piecewise,
        "",
        RISE | {"boundary_shares": SHARE, "level_shares": SHARE},
        stairs.check_points,
        note=PROOF,
    ),
    "one_cycle": Entry(
        cycles.one_cycle,
        "Smith & Topin 2017, https://arxiv.org/abs/1708.07120",
        {
            "peak": PEAK,
            "rise_share": SHARE,
            "start_share": ABOVE_ZERO,
            "final_share": ABOVE_ZERO,
        },
        cycles.check_cycle,
        note=PROOF,
    ),
    "cosine_restarts": Entry(
        cycles.cosine_restarts,
        "Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983",
        RISE
        | {
            "period_steps": PERIOD,
            "growth": PERIOD,
            "restart_share": ABOVE_ZERO,
            "low_share": SHARE,
        },
        check_steps,
        note=PROOF,
    ),
    "cyclic": Entry(
        cycles.cyclic,
        "Smith 2015, https://arxiv.org/abs/1506.01186",
        {
            "peak": PEAK,
            "rise_steps": PERIOD,
            "fall_steps": PERIOD,
            "low_share": ABOVE_ZERO,
            "factor": ABOVE_ZERO,
        },
        check_steps,
        note=PROOF,
    ),
    "range_test": Entry(
        ramp.range_test,
        "Smith 2015, https://arxiv.org/abs/1506.01186",
        {"peak": PEAK, "start_share": Range("(0, 1)")},
        note=PROOF,
    ),
}


def unchanged(*, peak: Number, num_steps: int | Array) -> optax.Schedule:
    """The number as it stands, at every step."""
    del num_steps
    return lambda step: peak


# Of another number than the rate: its share by step, so the peak is 1 and not a key.
SHARES = {"none": Entry(unchanged, "")} | {
    name: entry._replace(ranges={k: v for k, v in entry.ranges.items() if k != "peak"})
    for name, entry in SCHEDULES.items()
    if "peak" in entry.ranges
}
