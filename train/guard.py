"""Numerics guard: a step that is not finite, or absurd, changes nothing but a count.

It is part of the compiled step. Old and new values are chosen between by `where`: a
product with 0 would keep the NaN. Letters: W window of norms, R recent outcomes.

Departs from `optax.apply_if_finite`, which lets the NaN through after so many in a row,
takes a gradient of 1e25 for good although its square is inf in the second moment for
ever, and never ends a run that loses two steps in three.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from core.registry import Entry, Range
from core.types import Number

WINDOW = 64  # accepted steps, whose median norm is what a spike is measured by
RECENT = 128  # steps, of which a share may be skipped

# Far above any gradient or update that trains, and its square, even summed over 1e18
# weights, is far below the largest float32.
ABSURD = 1e10


class GuardState(NamedTuple):
    """What the guard remembers. Arrays only; part of the checkpoint."""

    norms_W: Float[Array, "W"]  # of accepted steps only, in a ring
    skipped_R: Bool[Array, "R"]  # of all steps, in a ring
    num_accepted: Int[Array, ""]
    num_skipped: Int[Array, ""]
    streak: Int[Array, ""]  # skipped steps since the last accepted one


class Verdict(NamedTuple):
    """`kept` is what was new, or what was old where `ok` is false."""

    ok: Bool[Array, ""]
    grad_norm: Float[Array, ""]
    kept: tuple[PyTree, ...]
    state: GuardState


class Guard(NamedTuple):
    """What is allowed: the config block `guard`.

    A step is skipped where its gradient norm is above `spike` times the median of the
    last 64 accepted ones (from the 65th on). The run ends when more than `max_streak`
    steps in a row were skipped, or more than `max_share` of the last 128.
    """

    spike: Number = 100.0
    max_streak: int = 20
    max_share: Number = 0.25

    def __call__(
        self,
        state: GuardState,
        *,
        loss: Float[Array, ""],
        grads: PyTree,
        updates: PyTree,
        old: tuple[PyTree, ...],
        new: tuple[PyTree, ...],
    ) -> Verdict:
        """Judges one step.

        `old` and `new` are all that it changes, as tuples of trees with the parameters
        first. (New parameters are finite where the old ones and the updates are, which
        saves a look at them.) The step counter is not to be among them: a skipped step
        has happened, and the schedule and the data go on.
        """
        norm = safe_norm(grads)
        median = jnp.median(state.norms_W)
        calm = (norm <= self.spike * median) | (median == 0)
        ok = (
            jnp.isfinite(loss)
            & (norm <= ABSURD)
            & (_peak(updates) <= ABSURD)
            & _stays_finite(old[1:], new[1:])
            & (calm | (state.num_accepted < WINDOW))
        )
        kept = jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)
        return Verdict(ok, norm, kept, _remember(state, ok, norm))

    def trouble(self, state: GuardState) -> str | None:
        """Why the run must end, if it must; `state` is on the host."""
        if state.streak > self.max_streak:
            return (
                f"{int(state.streak)} steps in a row were not finite or absurd and "
                f"were skipped; guard.max_streak={self.max_streak} are allowed."
            )
        recent = int(state.skipped_R.sum())
        if recent > self.max_share * RECENT:
            return (
                f"{recent} of the last {RECENT} steps were not finite or absurd and "
                f"were skipped; guard.max_share={self.max_share} is allowed."
            )
        return None


GUARD = Entry(
    Guard,
    "",
    {
        "spike": Range("(1, inf]", neutral=math.inf),
        "max_streak": Range("[0, inf)"),
        "max_share": Range("[0, 1]"),
    },
)


def init() -> GuardState:
    """The state before the first step."""
    return GuardState(
        norms_W=jnp.zeros(WINDOW, jnp.float32),
        skipped_R=jnp.zeros(RECENT, jnp.bool_),
        num_accepted=jnp.int32(0),
        num_skipped=jnp.int32(0),
        streak=jnp.int32(0),
    )


def safe_norm(tree: PyTree) -> Float[Array, ""]:
    """The global norm, where squares would overflow too; not finite if a leaf is not.

    sqrt(sum g^2) = peak * sqrt(sum (g / peak)^2), peak = max |g|.

    >>> float(safe_norm({"a": jnp.array([3e25, 4e25])}))
    4.999999...e+25
    """
    peak = _peak(tree)
    scale = jnp.where((peak > 0) & jnp.isfinite(peak), peak, 1.0)
    squares = [jnp.sum(jnp.square(g / scale)) for g in _floats(tree)]
    return jnp.where(jnp.isfinite(peak), scale * jnp.sqrt(sum(squares)), peak)


def _peak(tree: PyTree) -> Float[Array, ""]:
    """max |x| over all leaves; NaN where an entry is."""
    peaks = [jnp.max(jnp.abs(x), initial=0.0) for x in _floats(tree)]
    return jnp.max(jnp.stack(peaks)) if peaks else jnp.float32(0)


def _stays_finite(old: PyTree, new: PyTree) -> Bool[Array, ""]:
    """No entry is inf or NaN, but for single numbers that were so before.

    Those can be a rule's best loss so far, which begins as inf.
    """
    pairs = zip(_floats(old), _floats(new), strict=True)
    fine = [
        jnp.all(jnp.isfinite(n)) if n.ndim else jnp.isfinite(n) | ~jnp.isfinite(o)
        for o, n in pairs
    ]
    return jnp.all(jnp.stack(fine)) if fine else jnp.bool_(True)


def _floats(tree: PyTree) -> list[Any]:
    """Leaves that can be other than finite, in no less than float32."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in leaves]


def _remember(state: GuardState, ok: Bool[Array, ""], norm: Float[Array, ""]):
    """The guard's state after this step."""
    place = state.num_accepted % WINDOW
    turn = (state.num_accepted + state.num_skipped) % RECENT
    norm = jnp.where(ok, norm, state.norms_W[place])
    return GuardState(
        norms_W=state.norms_W.at[place].set(norm),
        skipped_R=state.skipped_R.at[turn].set(~ok),
        num_accepted=state.num_accepted + ok,
        num_skipped=state.num_skipped + ~ok,
        streak=jnp.where(ok, 0, state.streak + 1),
    )
