"""What happens to a clipped gradient before the rule sees it: `optim.gradient`."""

import functools
import math

import jax
import jax.numpy as jnp
import optax

from core.registry import Entry, Note, Range
from core.types import Number
from optim.layers import per_layer
from optim.links import Link, link


def gradient(
    *,
    clip_value: Number = math.inf,
    clip_share: Number = math.inf,
    centralize: bool = False,
    noise: Number = 0.0,
    noise_power: Number = 0.55,
) -> tuple[Link, ...]:
    """Links in this order, each off unless it is asked for:

    clip_value  every entry into [-clip_value, clip_value]
    clip_share  |g| of each unit to at most clip_share max(|w|, 1e-3): adaptive clipping
    centralize  g of each unit less its mean
    noise       g + N(0, noise / (1 + step)^noise_power)

    A unit is the column of a matrix (in, out) that makes one output; it has all of a
    vector for clipping, and a vector is not centralized.
    """
    return (
        *link("clip_value", optax.clip, clip_value, neutral=math.inf),
        *link("clip_share", _clip_units, clip_share, neutral=math.inf),
        *((("centralize", per_layer(optax.stateless(_centralized))),) * centralize),
        *link("noise", functools.partial(add_noise, power=noise_power), noise),
    )


def _clip_units(share: Number) -> optax.GradientTransformationExtraArgs:
    return per_layer(optax.adaptive_grad_clip(share))


def add_noise(variance: Number, power: Number) -> optax.GradientTransformationExtraArgs:
    """g <- g + N(0, variance / (1 + step)^power), from the step's `key`.

    Departs from `optax.add_noise`, which counts for itself and draws the same noise for
    every run of a seed that it is built with.
    """

    def update(updates, state, params=None, **extra):
        del params
        step = jnp.asarray(extra["step"], jnp.float32)
        deviation = jnp.sqrt(variance / (1.0 + step) ** power)
        leaves, structure = jax.tree.flatten(updates)
        keys = jax.random.split(extra["key"], len(leaves))
        noisy = [
            g + (deviation * jax.random.normal(key, g.shape)).astype(g.dtype)
            for key, g in zip(keys, leaves, strict=True)
        ]
        return structure.unflatten(noisy), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def sharpness_aware(
    radius: Number, *, adaptive: bool
) -> optax.GradientTransformationExtraArgs:
    """g <- gradient at w + e, where e = radius g / |g| is the steepest step.

    With `adaptive` e = radius w^2 g / |w g|, which does not change when layers are
    rescaled. A second gradient of the same batch, so twice the cost of a step. `radius`
    lies in [0, inf), about 0.05, and ten times that where adaptive.
    Source: Foret et al. 2021, https://arxiv.org/abs/2010.01412, equation 3; Kwon et al.
    2021 (ASAM), https://arxiv.org/abs/2102.11600, without its eta.
    """

    def update(updates, state, params=None, **extra):
        def pushed(g, w):
            return jnp.abs(w) * g if adaptive else g

        push = jax.tree.map(pushed, updates, params)
        norm = optax.tree.norm(optax.tree.cast(push, jnp.float32))
        share = radius / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny)

        def raised(w, p):
            return w + (share * pushed(p, w)).astype(w.dtype)

        return extra["grad_fn"](jax.tree.map(raised, params, push)), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _centralized(update, params):
    """One matrix (in, out) or vector.

    Departs from `optax.centralize`, which takes the mean over outputs of such a matrix.
    Source: Yong et al. 2020, https://arxiv.org/abs/2004.01461, equation 1.
    """
    del params
    return update - update.mean(0, keepdims=True) if update.ndim > 1 else update


PROOF = "tests/test_optim_gradient.py"

GRADIENT = Entry(
    gradient,
    "",
    {
        "clip_value": Range("(0, inf]", neutral=math.inf),
        "clip_share": Range("(0, inf]", neutral=math.inf),
        "noise": Range("[0, inf)", neutral=0.0),
        "noise_power": Range("[0, inf)"),
    },
    words={
        "clip_value": Note(PROOF, "optax.clip", source="Mikolov 2012"),
        "clip_share": Note(
            PROOF,
            "optax.adaptive_grad_clip",
            source="Brock et al. 2021, https://arxiv.org/abs/2102.06171",
        ),
        "centralize": Note(
            PROOF, source="Yong et al. 2020, https://arxiv.org/abs/2004.01461"
        ),
        "noise": Note(
            PROOF, source="Neelakantan et al. 2015, https://arxiv.org/abs/1511.06807"
        ),
    },
)
