"""One optimizer step, as a pure function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import optim
from core.mean import Mean
from core.task import Batch, Task
from train import guard, measure
from train.gradients import drawn_gradient, gradient, split
from train.guard import Guard, GuardState
from train.measure import Measure


class TrainState(struct.PyTreeNode):
    """All that changes in training, so all that a checkpoint holds. Arrays only."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: optax.OptState
    guard: GuardState
    noise: PyTree = ()  # see `train/noise_scale.py`; empty where that is off


OFF = Measure()
Scores = dict[str, Mean]
Step = Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Scores]]


def start(
    task: Task,
    tx: optax.GradientTransformation,
    key: PRNGKeyArray,
    measures: Measure = OFF,
) -> TrainState:
    """The state before the first step."""
    return start_at(task.init(key), tx, measures)


def start_at(
    params: PyTree, tx: optax.GradientTransformation, measures: Measure = OFF
) -> TrainState:
    """The state before the first step of a run that begins at `params`."""
    noise = measure.first_noise(measures)
    return TrainState(jnp.int32(0), params, tx.init(params), guard.init(), noise)


def eval_params(state: TrainState) -> PyTree:
    """What is evaluated: the parameters, or an average that the optimizer keeps."""
    return optim.eval_params(state.opt_state, state.params)


def make_step(
    task: Task,
    tx: optax.GradientTransformationExtraArgs,
    *,
    rate: optax.Schedule,
    judge: Guard,
    pieces: int = 1,
    measures: Measure = OFF,
) -> Step:
    """Returns (state, batch, key) -> (state, scores). The caller jits it.

    With `pieces` > 1 the batch is differentiated that many rows at a time to save
    memory; the sums are divided once, so the gradient is that of the whole batch
    however its padding falls. Randomness comes from `key` and `state.step` alone: a
    run resumed from a checkpoint is the same run.

    `tx` also gets the global `step`, a `key`, the objective's `value`, and `value_fn`
    and `grad_fn` of parameters.
    And `sampled_grad_fn`, of parameters and a key: see `drawn_gradient`.
    """
    of_piece = measure.of_piece(measures)

    def step(state, batch, key):
        key = jax.random.fold_in(key, state.step)
        keys = jax.random.split(key, pieces)
        rows = split(batch, pieces)
        grads, scores, found = gradient(task, state.params, rows, keys, of_piece)
        extra = _extra(task, batch, rows, key, keys)
        extra |= dict(step=state.step, value=scores["objective"].value)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        verdict = judge(
            state.guard,
            loss=scores["objective"].value,
            grads=grads,
            updates=updates,
            old=(state.params, state.opt_state),
            new=(params, opt_state),
        )
        noise, more = measure.in_step(
            measures,
            (grads, updates, state.params),
            (state.noise, found, scores["objective"].weight),
            num_rows=len(jax.tree.leaves(batch)[0]),
            ok=verdict.ok,
        )
        params, opt_state = verdict.kept
        now = jnp.asarray(optim.rate_at(rate(state.step), state.opt_state))
        scores |= more | {
            "rate": Mean.single(now),
            "grad_norm": Mean.single(verdict.grad_norm),
            "skipped": Mean.single(verdict.state.num_skipped),
        }
        state = TrainState(state.step + 1, params, opt_state, verdict.state, noise)
        return state, scores

    return step


def _extra(task, batch, rows, key, keys):
    """A key, and the functions of parameters that a transformation may ask for."""

    def value_fn(params):
        return task.score(params, batch, key, train=True)["objective"].value

    def grad_fn(params):
        return gradient(task, params, rows, keys)[0]

    def sampled_grad_fn(params, key):
        own = jax.random.split(key, len(keys))
        return drawn_gradient(task, params, rows, own)

    return dict(
        key=jax.random.fold_in(key, len(keys)),
        value_fn=value_fn,
        grad_fn=grad_fn,
        sampled_grad_fn=sampled_grad_fn,
    )
