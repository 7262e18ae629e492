"""The gradient noise scale, from the pieces of a step: which batch size is critical.

Source: McCandlish et al. 2018, https://arxiv.org/abs/1812.06162, equation 2.9 and
appendix A.1. It departs from it in that the batches of two sizes are the step's pieces
and their whole, and in that pieces may weigh differently: with g_i the gradient of a
piece of w_i targets, g = sum w_i g_i / W that of all W, and p pieces,

  trace = (sum w_i |g_i|^2 - W |g|^2) / (p - 1)    estimates tr(S), of one target;
  grad_square = |g|^2 - trace / W                  estimates |G|^2;

both without bias if g_i has mean G and covariance S / w_i, and the paper's own for
equal w_i. B_simple = tr(S) / |G|^2: below so many targets a step twice the batch is
nearly worth two steps, above them it hardly helps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from core.mean import Mean


class Spread(NamedTuple):
    """Over the pieces of a step: sum w_i |g_i|^2, and how many weigh anything."""

    square: Float[Array, ""]
    pieces: Float[Array, ""]


class Noise(NamedTuple):
    """Running averages of the estimates; part of the train state, so of a checkpoint.

    Plain means at first, so that nothing pulls them to where they began.
    """

    steps: Int[Array, ""]  # that they are of
    trace: Float[Array, ""]
    grad_square: Float[Array, ""]
    row_targets: Float[Array, ""]  # in a row of the batch


def init() -> Noise:
    """Before the first step."""
    return Noise(jnp.int32(0), jnp.float32(0), jnp.float32(0), jnp.float32(0))


def of_piece(grads: PyTree, weight: Float[Array, ""]) -> Spread:
    """Of one piece's total gradient, w_i g_i. A piece of padding is none."""
    there = weight > 0
    square = square_of(grads) / jnp.where(there, weight, 1.0)
    return Spread(jnp.where(there, square, 0.0), there.astype(jnp.float32))


def estimates(
    spread: Spread, grads: PyTree, weight: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """trace and grad_square of one step; not finite where one piece is all there is."""
    square = square_of(grads)
    trace = (spread.square - weight * square) / (spread.pieces - 1)
    return trace, square - trace / weight


def measured(
    noise: Noise,
    spread: Spread,
    grads: PyTree,
    weight: Float[Array, ""],
    *,
    num_rows: int,
    ok: Bool[Array, ""],
    memory_steps: int,
) -> tuple[Noise, dict[str, Mean]]:
    """The averages after a step, and the scores.

    `noise_scale/trace` and `noise_scale/grad_square` are this step's estimates.
    `noise_scale/targets` is the ratio of their averages over about `memory_steps`
    steps, in target tokens, and `noise_scale/rows` the same in rows of the batch:
    negative or huge as long as the averages are mostly noise. A step that is not `ok`,
    or has one piece that is no padding, leaves the averages as they are.

    Costs: one more reading of the gradient of each piece, and three numbers of state.
    """
    trace, grad_square = estimates(spread, grads, weight)
    ok &= jnp.isfinite(trace) & jnp.isfinite(grad_square)
    steps = noise.steps + ok
    share = 1 / jnp.clip(steps, 1, memory_steps)

    def mean(old, new):
        return jnp.where(ok, old + share * (new - old), old)

    noise = Noise(
        steps,
        mean(noise.trace, trace),
        mean(noise.grad_square, grad_square),
        mean(noise.row_targets, weight / num_rows),
    )
    targets = noise.trace / noise.grad_square
    found = {
        "trace": trace,
        "grad_square": grad_square,
        "targets": targets,
        "rows": targets / noise.row_targets,
    }
    return noise, {f"noise_scale/{k}": Mean.single(x) for k, x in found.items()}


def square_of(tree: PyTree) -> Float[Array, ""]:
    """Sum of squares, in float32 at least."""
    return sum(
        (
            jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))))
            for x in jax.tree.leaves(tree)
        ),
        start=jnp.float32(0),
    )
