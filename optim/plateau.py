"""The rate falls where the objective no longer does."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, PyTree

from core.numbers import off
from core.registry import Entry, Note, Range
from core.types import Number


class PlateauState(NamedTuple):
    """What was seen so far, and the state of what is around."""

    share: Array  # of the rate
    lowest: Array  # of the means that were an improvement
    total: Array  # of the values since the last mean
    num_values: Array
    num_bad: Array  # means in a row that were none
    num_cooling: Array  # means that are yet to be let pass
    inner: PyTree


def on_plateau(
    *,
    factor: Number = 1.0,
    patience: int = 10,
    cooldown: int = 0,
    threshold: Number = 1e-4,
    min_share: Number = 0.0,
    every_steps: int = 100,
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`tx` at a share of its rate, which is 1 until the training objective stands.

    Of every so many steps the objective's mean is taken. It is bad unless it is below
    (1 - threshold) times the lowest. After more than `patience` bad ones in a row the
    share is multiplied by `factor`, down to `min_share`; then `cooldown` of them are
    let pass. PyTorch's ReduceLROnPlateau, with `every_steps` for an epoch: a mean
    counts from the next step on. `update` takes the objective as `value`.
    `factor` lies in (0, 1], and 1 is off; `threshold` and `min_share` in [0, 1).

    Departs from optax.contrib.reduce_on_plateau, which needs patience=n + 1 to wait as
    long as PyTorch's n, whose first step at a lower rate is that of the last value,
    which takes no tracers for `factor`, and which leaves the `rate` that a rule is
    given as it was.
    """
    if off(factor, 1.0):
        return tx

    def init(params):
        nothing, zero = jnp.float32(0), jnp.int32(0)
        counts = dict(num_values=zero, num_bad=zero, num_cooling=zero)
        highest, whole = jnp.float32(jnp.inf), jnp.float32(1)
        inner = tx.init(params)
        return PlateauState(whole, highest, total=nothing, inner=inner, **counts)

    def update(updates, state, params=None, **extra):
        now = extra | {"rate": state.share * extra["rate"]}
        updates, inner = tx.update(updates, state.inner, params, **now)
        seen = state._replace(
            total=state.total + jnp.asarray(extra["value"], jnp.float32),
            num_values=state.num_values + 1,
            inner=inner,
        )
        due = seen.num_values >= every_steps
        after = _judged(seen, factor, patience, cooldown, threshold, min_share)
        chosen = {
            key: jnp.where(due, after[key], old)
            for key, old in seen._asdict().items()
            if key != "inner"
        }
        return updates, PlateauState(inner=inner, **chosen)

    return optax.GradientTransformationExtraArgs(init, update)


def _judged(
    state: PlateauState,
    factor: Number,
    patience: int,
    cooldown: int,
    threshold: Number,
    min_share: Number,
) -> dict[str, Array]:
    """What is new of the state after the mean of its values."""
    mean = state.total / state.num_values
    better = mean < state.lowest * (1 - threshold)
    cooling = state.num_cooling > 0
    num_bad = jnp.where(better | cooling, 0, state.num_bad + 1)
    falls = num_bad > patience
    lower = jnp.maximum(state.share * factor, min_share)
    return {
        "share": jnp.where(falls, lower, state.share),
        "lowest": jnp.where(better, mean, state.lowest),
        "total": jnp.zeros_like(state.total),
        "num_values": jnp.zeros_like(state.num_values),
        "num_bad": jnp.where(falls, 0, num_bad),
        "num_cooling": jnp.where(falls, cooldown, state.num_cooling - cooling),
    }


def rate_at(rate: ArrayLike, opt_state: PyTree) -> ArrayLike:
    """The rate of a schedule as the optimizer in this state takes it."""
    if isinstance(opt_state, PlateauState):
        return opt_state.share * rate
    return rate


PLATEAU = Entry(
    on_plateau,
    "ReduceLROnPlateau of PyTorch",
    {
        "factor": Range("(0, 1]", neutral=1.0),
        "patience": Range("[0, inf)"),
        "cooldown": Range("[0, inf)"),
        "threshold": Range("[0, 1)"),
        "min_share": Range("[0, 1)"),
        "every_steps": Range("[1, inf)"),
    },
    note=Note("tests/test_optim_plateau.py"),
)
