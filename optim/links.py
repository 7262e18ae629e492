"""Links of the chain beside the rule: clipping, penalties, the rate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from core.numbers import off
from core.trees import assign
from core.types import Number
from optim.layers import per_layer

# Kernels shrink. Scales and biases do not: they set where and how far a unit reaches.
# Nor do embeddings and places: a rare word's row would shrink at every step and get
# a gradient at few. A tied output is an embedding.
DECAYED = assign(
    {
        r"/(query|key|value|out|in|gate|router|head|unembed)$": True,
        r"[/_](scale|bias|embed|place|distance)$": False,
    }
)


Link = tuple[str, optax.GradientTransformation]  # of a named chain


def link(
    name: str,
    builder: Callable[[Number], optax.GradientTransformation],
    number: Number,
    *,
    neutral: float = 0.0,
) -> tuple[Link, ...]:
    """The link `name` as a tuple of one; an empty one where `number` is off."""
    return () if off(number, neutral) else ((name, builder(number)),)


def clip(max_norm: Number) -> optax.GradientTransformation:
    """g <- g min(1, max_norm / |g|), with |g| in float32 over all parameters together.

    A gradient inside the ball passes to the bit. One whose norm is not finite in
    float32 (from 1.8e19 on) becomes NaN, which a guard sees: as zeros it would pass for
    a step that momentum takes. Departs from optax.clip_by_global_norm in that, and in
    taking a float32 tracer for bfloat16 gradients. `max_norm` lies in (0, inf].
    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063, algorithm 1.
    """

    def shrink(updates, _):
        norm = optax.tree.norm(optax.tree.cast(updates, jnp.float32))
        share = jnp.where(norm < jnp.inf, jnp.minimum(1.0, max_norm / norm), jnp.nan)
        return jax.tree.map(lambda u: (share * u).astype(u.dtype), updates)

    return optax.stateless(shrink)


def add_weights(share: Number) -> optax.GradientTransformation:
    """u <- u + share w on kernels: L2 before the rule, decoupled decay after it."""
    return optax.add_decayed_weights(share, mask=DECAYED)


def add_signs(share: Number) -> optax.GradientTransformation:
    """g <- g + share sign(w) on kernels: the subgradient of share * |w|_1.

    Weights come near zero and hop about it; they do not stay at it, as under a
    proximal step. `share` lies in [0, inf).
    Source: Tibshirani 1996, https://www.jstor.org/stable/2346178.
    """

    def add(updates, params):
        return jax.tree.map(lambda u, w: u + share * jnp.sign(w), updates, params)

    return optax.masked(optax.stateless(add), DECAYED)


def clip_rms(most: Number) -> optax.GradientTransformationExtraArgs:
    """u <- u / max(1, RMS(u) / most), each tensor of each layer on its own.

    Source: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235, section 6.
    """
    return per_layer(optax.clip_by_block_rms(most))


def scale_each(
    factors: Callable[[PyTree, PyTree], PyTree], sizes: Callable[[PyTree], PyTree]
) -> optax.GradientTransformation:
    """u <- factor u, a factor for each tensor; see `optim/sizes.py`."""

    def scale(updates, params):
        each = factors(params, sizes(params))
        return jax.tree.map(lambda u, factor: factor * u, updates, each)

    return optax.stateless(scale)


def scale_by_rate() -> optax.GradientTransformationExtraArgs:
    """u <- -rate u, at the rate that `update` is given."""

    def update(updates, state, params=None, **extra):
        del params
        return jax.tree.map(lambda u: -extra["rate"] * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def at_rate(
    tx: optax.GradientTransformationExtraArgs, schedule: optax.Schedule
) -> optax.GradientTransformationExtraArgs:
    """`tx`, given `rate`, that of the global `step`, beside what it is given.

    A counter of its own would fall behind by each step that a guard skips.
    """

    def update(updates, state, params=None, **extra):
        rate = jnp.asarray(schedule(extra["step"]))
        return tx.update(updates, state, params, rate=rate, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def keep_dtypes(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`tx` with updates of the gradients' dtypes and a state that keeps its own.

    A traced number is float32 and makes float32 of the bfloat16 that it multiplies.
    """

    def cast(new, old):
        return new if new.dtype == old.dtype else new.astype(old.dtype)

    def update(updates, state, params=None, **extra):
        new_updates, new_state = tx.update(updates, state, params, **extra)
        new_updates = jax.tree.map(cast, new_updates, updates)
        return new_updates, jax.tree.map(cast, new_state, state)

    return optax.GradientTransformationExtraArgs(tx.init, update)
