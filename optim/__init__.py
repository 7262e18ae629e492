"""Optimizers. A new rule is a function in a file here and a line in RULES."""

import math
from collections.abc import Callable

import optax
from jaxtyping import Array, PyTree

from core.numbers import off
from core.registry import Entry, Range, build
from core.types import Config, Number
from optim import adam, descent, links, schedules

BETA = Range("[0, 1)")
EPS = Range("(0, inf)")

RULES = {
    "gradient_descent": Entry(descent.gradient_descent, "Cauchy 1847"),
    "sgd": Entry(
        descent.sgd,
        "Polyak 1964; Nesterov 1983; Sutskever et al. 2013",
        {"momentum": Range("[0, 1)", neutral=0.0)},
    ),
    "adam": Entry(
        adam.adam,
        "Kingma & Ba 2015, https://arxiv.org/abs/1412.6980",
        {"b1": BETA, "b2": BETA, "eps": EPS},
    ),
    # The same update: what makes it AdamW is `optim.decay`, which any rule may have.
    "adamw": Entry(
        adam.adam,
        "Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101",
        {"b1": BETA, "b2": BETA, "eps": EPS},
    ),
}

RAW = ("gradient_descent", "sgd")  # their updates are as large as the gradient

PEAK = Range("(0, inf)")
STEPS = Range("[0, 2147483647]")
SHARE = Range("[0, 1]")

SCHEDULES = {
    "constant": Entry(
        schedules.constant,
        "Robbins & Monro 1951",
        {"peak": PEAK, "warmup_steps": STEPS},
        schedules.check_steps,
    ),
    "linear": Entry(
        schedules.linear,
        "Bergsma et al. 2025, https://arxiv.org/abs/2502.15938",
        {"peak": PEAK, "warmup_steps": STEPS, "final_share": SHARE},
        schedules.check_steps,
    ),
    "cosine": Entry(
        schedules.cosine,
        "Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983",
        {"peak": PEAK, "warmup_steps": STEPS, "final_share": SHARE},
        schedules.check_steps,
    ),
    "inverse_sqrt": Entry(
        schedules.inverse_sqrt,
        "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        {"peak": PEAK, "warmup_steps": STEPS},
        schedules.check_steps,
    ),
    "wsd": Entry(
        schedules.warmup_stable_decay,
        "Hägele et al. 2024, https://arxiv.org/abs/2405.18392",
        {"peak": PEAK, "warmup_steps": STEPS, "decay_steps": STEPS},
        schedules.check_steps,
    ),
}

RANGES = {
    "clip_norm": Range("(0, inf]", neutral=math.inf),
    "l2": Range("[0, inf)", neutral=0.0),
    "l1": Range("[0, inf)", neutral=0.0),
    "decay": Range("[0, inf)", neutral=0.0),
}


def make(
    *,
    clip_norm: Number = math.inf,
    l2: Number = 0.0,
    l1: Number = 0.0,
    decay: Number = 0.0,
    rule: Config,
    schedule: Config,
    num_steps: int | Array,
    factors: Callable[..., PyTree] | None = None,
) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
    """The `optim` block of a config, as a chain. Read downwards, it is the update:

    g <- g min(1, clip_norm / |g|)      clip, |g| over all parameters
    g <- g + l2 w                       l2       (kernels only, as l1 and decay)
    g <- g + l1 sign(w)                 l1
    u <- rule(g)                        rule
    u <- factor u                       factor   (each tensor its own, if it has one)
    u <- u + decay w                    decay
    w <- w - rate(step) u               rate

    So the decay of a step is rate * decay, as in optax and PyTorch; for Loshchilov &
    Hutter's own, which the peak does not scale, give decay / peak. What is clipped is
    the gradient of the objective alone.
    A number that is concretely neutral has no link; a traced one always has.
    `factors(params, raw=...)` gives those of a parametrization such as muP; decay does
    not feel them, as is usual there.
    `update` takes the global `step` beside the parameters, and other extra arguments.
    """
    rate = build(SCHEDULES, schedule, "optim.schedule", num_steps=num_steps)
    chain = optax.named_chain(
        *_link("clip", links.clip, clip_norm, neutral=math.inf),
        *_link("l2", links.add_weights, l2, neutral=0.0),
        *_link("l1", links.add_signs, l1, neutral=0.0),
        ("rule", build(RULES, rule, "optim.rule")),
        *(
            [("factor", links.scale_each(factors, raw=rule["name"] in RAW))]
            if factors is not None
            else []
        ),
        *_link("decay", links.add_weights, decay, neutral=0.0),
        ("rate", links.scale_by_rate(rate)),
    )
    return links.keep_dtypes(chain), rate


def _link(name, builder, number, *, neutral):
    """The link `name` as a tuple of one; an empty one where `number` is off."""
    return () if off(number, neutral) else ((name, builder(number)),)


OPTIM = Entry(
    make, "Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101", RANGES
)
