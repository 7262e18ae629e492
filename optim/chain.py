"""The chain: from the `optim` block of a config to one transformation."""

import dataclasses
import math
import types
from collections.abc import Callable
from functools import partial
from typing import Literal

import optax
from jaxtyping import Array, PyTree

from core.registry import Entry, Note, Range, build
from core.types import Config, Number
from optim import cautious as agree
from optim import links, scheduled, start
from optim.average import AVERAGES
from optim.constrain import CONSTRAIN
from optim.depth import scale_layers
from optim.gradient import GRADIENT, sharpness_aware
from optim.outer import OUTER
from optim.plateau import PLATEAU
from optim.rules import RULES
from optim.schedules import SCHEDULES
from optim.sizes import sizes_of

NONE = types.MappingProxyType({"name": "none"})

RANGES = {
    "clip_norm": Range("(0, inf]", neutral=math.inf),
    "l2": Range("[0, inf)", neutral=0.0),
    "l1": Range("[0, inf)", neutral=0.0),
    "l2_start": Range("[0, inf)", neutral=0.0),
    "sam_radius": Range("[0, inf)", neutral=0.0),
    "mixout": Range("[0, 1)", neutral=0.0),
    "clip_rms": Range("(0, inf]", neutral=math.inf),
    "decay": Range("[0, inf)", neutral=0.0),
    "layer_decay": Range("(0, 1]", neutral=1.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """The `optim` block of a config. Read downwards, it is the update of a chain:

    g <- g at w + sam_radius g / |g|    sam
    g <- g at w mixed with w_0          mixout   (see `optim/start.py`)
    g <- g min(1, clip_norm / |g|)      clip, |g| over all parameters
    g <- ...                            gradient (see `optim/gradient.py`)
    g <- g + l2 w                       l2       (kernels only, as l1 and decay)
    g <- g + l1 sign(w)                 l1
    g <- g + l2_start (w - w_0)         l2_start
    u <- rule(g)                        rule, `cautious` where it is asked for
    u <- u / max(1, RMS(u) / clip_rms)  clip_rms, each tensor of each layer on its own
    u <- factor u                       factor   (each tensor its own, if it has one)
    u <- u + decay w                    decay
    u <- layer_decay^depth u            layer_decay, depth below the output
    w <- w - rate(step) u               rate, and a share of it after a `plateau`
    w <- ...                            constrain (see `optim/constrain.py`)

    Around it stands `outer`, and around that `average`, which see these steps as whole.
    What is clipped is the gradient of the objective alone. The decay of a step is
    rate * decay, as in optax and PyTorch; an "independent" one, Loshchilov & Hutter's
    own, rate / peak * decay; a "cautious" one is left out where the step leads away
    from zero.
    A number that is concretely neutral has no link; a traced one always has. One that
    has a schedule of its own (`b1_schedule`) is multiplied by that, at each step.
    `factors(params, sizes)` gives those of a parametrization such as muP; decay does
    not feel them, as is usual there.
    `update` takes the global `step` beside the parameters, and the other extra
    arguments of a rule (see `optim/rules`), but for the rate, which it adds.
    """

    sam_radius: Number = 0.0
    sam_adaptive: bool = False
    mixout: Number = 0.0
    clip_norm: Number = math.inf
    gradient: Config = dataclasses.field(default_factory=dict)
    l2: Number = 0.0
    l1: Number = 0.0
    l2_start: Number = 0.0
    rule: Config
    cautious: bool = False
    clip_rms: Number = math.inf
    decay: Number = 0.0
    decay_kind: Literal["decoupled", "independent", "cautious"] = "decoupled"
    layer_decay: Number = 1.0
    schedule: Config
    constrain: Config = dataclasses.field(default_factory=dict)
    decay_schedule: Config = dataclasses.field(default_factory=lambda: NONE)
    b1_schedule: Config = dataclasses.field(default_factory=lambda: NONE)
    b2_schedule: Config = dataclasses.field(default_factory=lambda: NONE)
    plateau: Config = dataclasses.field(default_factory=dict)
    outer: Config = dataclasses.field(default_factory=lambda: NONE)
    average: Config = dataclasses.field(default_factory=lambda: NONE)
    num_steps: int | Array
    factors: Callable[..., PyTree] | None = None

    def make(self) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
        """The transformation, and the rate of a step."""
        rate = build(
            SCHEDULES, self.schedule, "optim.schedule", num_steps=self.num_steps
        )
        blocks = dict(
            decay=self.decay_schedule, b1=self.b1_schedule, b2=self.b2_schedule
        )
        shares = scheduled.shares_of(blocks, self.num_steps)
        tx = scheduled.by_step(self.of_step, shares)
        tx = build(OUTER, self.outer, "optim.outer", tx=tx)
        tx = build(AVERAGES, self.average, "optim.average", tx=tx)
        tx = build(PLATEAU, self.plateau, "optim.plateau", tx=tx)
        return links.keep_dtypes(links.at_rate(tx, rate)), rate

    def of_step(self, now: scheduled.Shares) -> optax.GradientTransformationExtraArgs:
        """Those that are on, by name, of a step's numbers."""
        sharpness = partial(sharpness_aware, adaptive=self.sam_adaptive)
        decay = scheduled.scaled(self.decay, "decay", now, neutral=0.0)
        add_decay = partial(_decay, self.decay_kind, self.schedule)
        return optax.named_chain(
            *links.link("sam", sharpness, self.sam_radius),
            *links.link("mixout", start.mixout, self.mixout),
            *links.link("clip", links.clip, self.clip_norm, neutral=math.inf),
            *build(GRADIENT, self.gradient, "optim.gradient"),
            *links.link("l2", links.add_weights, self.l2),
            *links.link("l1", links.add_signs, self.l1),
            *links.link("l2_start", start.add_distance, self.l2_start),
            ("rule", _rule(scheduled.rule_at(self.rule, now), cautious=self.cautious)),
            *links.link("clip_rms", links.clip_rms, self.clip_rms, neutral=math.inf),
            *_factor(self.factors, self.rule),
            *links.link("decay", add_decay, decay),
            *links.link("layer_decay", scale_layers, self.layer_decay, neutral=1.0),
            ("rate", links.scale_by_rate()),
            *build(CONSTRAIN, self.constrain, "optim.constrain"),
        )


def make(
    **words,
) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
    """The transformation of a chain's words, and its rate."""
    return Chain(**words).make()


def _factor(factors: Callable[..., PyTree] | None, rule: Config) -> tuple:
    if factors is None:
        return ()
    return (("factor", links.scale_each(factors, sizes_of(rule))),)


def _rule(rule: Config, *, cautious: bool) -> optax.GradientTransformationExtraArgs:
    tx = optax.with_extra_args_support(build(RULES, rule, "optim.rule"))
    return agree.cautious(tx) if cautious else tx


def _decay(kind: str, schedule: Config, share: Number) -> optax.GradientTransformation:
    if kind == "cautious":
        return agree.add_agreeing(share)
    return links.add_weights(
        share / schedule["peak"] if kind == "independent" else share
    )


def check(
    *,
    rule: Config,
    schedule: Config,
    sam_radius: float = 0.0,
    mixout: float = 0.0,
    decay_kind: str = "decoupled",
    b1_schedule: Config = NONE,
    b2_schedule: Config = NONE,
    **_,
) -> None:
    """Raises ValueError for words that do not go with the rule or the schedule."""
    if decay_kind == "independent" and "peak" not in schedule:
        raise ValueError(
            "optim.decay_kind='independent' needs a schedule with a peak, and "
            f"optim.schedule.name={schedule['name']!r} has none."
        )
    if sam_radius and mixout:
        raise ValueError(
            f"optim.{sam_radius=} and optim.{mixout=}: the gradient is taken elsewhere "
            "for one of them only."
        )
    scheduled.check_number("b1", b1_schedule, rule)
    scheduled.check_number("b2", b2_schedule, rule)


LINKS = "tests/test_optim.py"
GRADIENTS = "tests/test_optim_gradient.py"
NUMBERS = "tests/test_optim_numbers.py"

OPTIM = Entry(
    Chain,
    "",
    RANGES,
    check,
    words={
        "sam_radius": Note(
            GRADIENTS,
            cost="a second gradient",
            source="Foret et al. 2021, https://arxiv.org/abs/2010.01412; "
            "Kwon et al. 2021 (adaptive), https://arxiv.org/abs/2102.11600",
        ),
        "mixout": Note(
            GRADIENTS,
            cost="a second gradient",
            source="Lee et al. 2020, https://arxiv.org/abs/1909.11299",
        ),
        "clip_norm": Note(
            LINKS, source="Pascanu et al. 2013, https://arxiv.org/abs/1211.5063"
        ),
        "l2": Note(
            "tests/test_optim_reference.py",
            "optax.add_decayed_weights",
            source="Hoerl & Kennard 1970",
        ),
        "l1": Note("tests/test_optim_constrain.py", source="Tibshirani 1996"),
        "l2_start": Note(
            GRADIENTS, source="Li et al. 2018, https://arxiv.org/abs/1802.01483"
        ),
        "cautious": Note(
            GRADIENTS, source="Liang et al. 2024, https://arxiv.org/abs/2411.16085"
        ),
        "clip_rms": Note(
            GRADIENTS,
            "optax.clip_by_block_rms",
            source="Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235",
        ),
        "decay": Note(
            "tests/test_optim_reference.py",
            "optax.add_decayed_weights",
            source="Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101",
        ),
        "decay_kind": Note(
            GRADIENTS,
            source="Loshchilov & Hutter 2019 (independent); Chen et al. 2025 "
            "(cautious), https://arxiv.org/abs/2510.12402",
        ),
        "decay_schedule": Note(NUMBERS),
        "b1_schedule": Note(NUMBERS),
        "b2_schedule": Note(NUMBERS),
        "layer_decay": Note(
            "tests/test_optim_depth.py",
            source="Howard & Ruder 2018, https://arxiv.org/abs/1801.06146",
        ),
    },
)
