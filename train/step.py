"""One optimizer step, as a pure function."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch, Task
from train import guard
from train.guard import Guard, GuardState


class TrainState(struct.PyTreeNode):
    """All that changes in training, so all that a checkpoint holds. Arrays only."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: optax.OptState
    guard: GuardState


Scores = dict[str, Mean]
Step = Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Scores]]


def start(
    task: Task,
    tx: optax.GradientTransformation,
    key: PRNGKeyArray,
) -> TrainState:
    """The state before the first step."""
    params = task.init(key)
    return TrainState(jnp.int32(0), params, tx.init(params), guard.init())


def eval_params(state: TrainState) -> PyTree:
    """What is evaluated: the parameters themselves, until an average gives its own."""
    return state.params


def make_step(
    task: Task,
    tx: optax.GradientTransformationExtraArgs,
    *,
    rate: optax.Schedule,
    judge: Guard,
    pieces: int = 1,
) -> Step:
    """Returns (state, batch, key) -> (state, scores). The caller jits it.

    With `pieces` > 1 the batch is differentiated that many rows at a time to save
    memory; the sums are divided once, so the gradient is that of the whole batch
    however its padding falls. Randomness comes from `key` and `state.step` alone: a
    run resumed from a checkpoint is the same run.

    `tx` also gets the global `step`, a `key` and a `value_fn` of the parameters.
    """

    def total_objective(params, piece, key):
        scores = task.score(params, piece, key, train=True)
        return scores["objective"].total, scores

    def step(state, batch, key):
        key = jax.random.fold_in(key, state.step)
        keys = jax.random.split(key, pieces)
        grad = functools.partial(jax.grad(total_objective, has_aux=True), state.params)
        grads, scores = _sum_of(grad, _split(batch, pieces), keys)
        grads = jax.tree.map(lambda g: g / scores["objective"].weight, grads)

        def value_fn(params):
            return task.score(params, batch, key, train=True)["objective"].value

        updates, opt_state = tx.update(
            grads,
            state.opt_state,
            state.params,
            step=state.step,
            key=jax.random.fold_in(key, pieces),
            value_fn=value_fn,
        )
        params = optax.apply_updates(state.params, updates)
        verdict = judge(
            state.guard,
            loss=scores["objective"].value,
            grads=grads,
            updates=updates,
            old=(state.params, state.opt_state),
            new=(params, opt_state),
        )
        params, opt_state = verdict.kept
        scores |= {
            "rate": Mean.single(jnp.asarray(rate(state.step))),
            "grad_norm": Mean.single(verdict.grad_norm),
            "skipped": Mean.single(verdict.state.num_skipped),
        }
        state = TrainState(state.step + 1, params, opt_state, verdict.state)
        return state, scores

    return step


def _split(batch: PyTree, pieces: int) -> PyTree:
    """Row i goes to piece i % pieces: rows stay on the device that holds them."""
    return jax.tree.map(
        lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), batch
    )


def _sum_of(function: Callable, *stacks: PyTree) -> PyTree:
    """Sum over the leading axis of `function`'s result, one row in memory at a time."""
    row = jax.tree.map(lambda x: x[0], stacks)
    if len(jax.tree.leaves(stacks)[0]) == 1:
        return function(*row)

    def add(total, row):
        return jax.tree.map(jnp.add, total, function(*row)), None

    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, *row))
    return jax.lax.scan(add, zero, stacks)[0]
