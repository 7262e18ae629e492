"""The objective's gradient over a whole batch, a piece of it at a time."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch, Task


def nothing(grads: PyTree, weight: Array) -> tuple[()]:
    """What is looked at of a piece's gradient, if nothing is."""
    del grads, weight
    return ()


def gradient(
    task: Task,
    params: PyTree,
    rows: Batch,
    keys: PRNGKeyArray,
    of_piece: Callable[[PyTree, Array], Any] = nothing,
) -> tuple[PyTree, dict[str, Mean], Any]:
    """That of the mean objective over all rows, and the scores there.

    The sums are divided once, so it does not depend on how `rows` (see `split`) were
    cut. Third is the sum over pieces of `of_piece`, of a piece's total gradient and its
    weight.
    """

    def total(params, piece, key):
        scores = task.score(params, piece, key, train=True)
        return scores["objective"].total, scores

    def part(piece, key):
        grads, scores = jax.grad(total, has_aux=True)(params, piece, key)
        return grads, scores, of_piece(grads, scores["objective"].weight)

    grads, scores, found = sum_of(part, rows, keys)
    weight = scores["objective"].weight
    return jax.tree.map(lambda g: g / weight, grads), scores, found


def drawn_gradient(
    task: Task, params: PyTree, rows: Batch, keys: PRNGKeyArray
) -> tuple[PyTree, Array]:
    """That of the mean loss over all rows, had the model drawn the targets itself.

    Also how many targets that is the mean of. Only a rule that asks pays for it.
    """

    def total(params, piece, key):
        loss = task.drawn_loss(params, piece, key)
        return loss.total, loss.weight

    part = functools.partial(jax.grad(total, has_aux=True), params)
    grads, weight = sum_of(part, rows, keys)
    return jax.tree.map(lambda g: g / weight, grads), weight


def split(batch: PyTree, pieces: int) -> PyTree:
    """Row i goes to piece i % pieces: rows stay on the device that holds them."""
    return jax.tree.map(
        lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), batch
    )


def sum_of(function: Callable, *stacks: PyTree) -> Any:
    """Sum over the leading axis of `function`'s result, one row in memory at a time."""
    row = jax.tree.map(lambda x: x[0], stacks)
    if len(jax.tree.leaves(stacks)[0]) == 1:
        return function(*row)

    def add(total, row):
        return jax.tree.map(jnp.add, total, function(*row)), None

    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, *row))
    return jax.lax.scan(add, zero, stacks)[0]
