"""This repository's chain as a contestant, and the gradients that all are given.

The update alone, as a step has it: the chain and the addition to the parameters, one
compiled function whose parameters and state are given away. A rule that asks for more
than the gradient gets what the step gives it, so its time has that in it.
"""

import importlib.metadata
from typing import Any

import jax
import numpy as np
import optax
import optimizers_problem as problem
import turns

import optim
from core.axes import views_of
from models.decoder import Decoder
from optim.rules.kinds import KINDS
from tasks.language import Language
from train.gradients import drawn_gradient, gradient, split
from train.provenance import provenance

LIBRARIES = ("jax", "jaxlib", "optax")
CONSTANT = dict(name="constant", peak=problem.RATE, warmup_steps=0)


def task_of() -> Language:
    """The decoder; its layers lie in one array, as always here."""
    model = Decoder(
        vocab=problem.VOCAB,
        width=problem.WIDTH,
        num_heads=problem.NUM_HEADS,
        num_layers=problem.NUM_LAYERS,
        mlp_width=problem.MLP_WIDTH,
        activation="gelu_tanh",
        position="rotary",
        implementation="plain",
        unroll=problem.NUM_LAYERS,
    )
    return Language(model, chunk=problem.CHUNK)


def functions_of(task: Language, batch: Any, key: Any) -> dict[str, Any]:
    """What `train/step.py` gives a chain beside the gradient and the step."""
    keys, rows = jax.random.split(key, problem.PIECES), split(batch, problem.PIECES)

    def value_fn(params):
        return task.score(params, batch, key, train=True)["objective"].value

    def grad_fn(params):
        return gradient(task, params, rows, keys)[0]

    def sampled_grad_fn(params, key):
        own = jax.random.split(key, len(keys))
        return drawn_gradient(task, params, rows, own)

    return dict(
        key=key, value_fn=value_fn, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
    )


class Gradients:
    """Forward and backward; writes the gradient of each batch into `folder`."""

    def __init__(self, *, folder: str):
        task, self._key = task_of(), jax.random.key(0)
        self._params = jax.jit(task.init)(self._key)
        self._batches, self._num_steps = problem.batches(), 0

        def differentiate(params, batch, key):
            return functions_of(task, batch, key)["grad_fn"](params)

        self._step = jax.jit(differentiate)
        problem.save(
            folder,
            [
                list(map(np.asarray, jax.tree.leaves(self.step())))
                for _ in range(problem.NUM_BATCHES)
            ],
        )

    def step(self) -> Any:
        batch = self._batches[self._num_steps % problem.NUM_BATCHES]
        self._num_steps += 1
        return self._step(self._params, batch, self._key)

    def wait(self, loss: Any) -> float:
        return float(jax.tree.leaves(jax.block_until_ready(loss))[0].sum())

    def multiply(self) -> None:
        """Nothing is compared with the peak."""

    def facts(self) -> dict[str, Any]:
        """The tensors are what a layer of each leaf is, in the order of the leaves."""
        views, kinds = views_of(self._params), KINDS(self._params)
        leaves, structure = jax.tree.flatten(self._params)
        pairs = zip(structure.flatten_up_to(views), jax.tree.leaves(kinds), strict=True)
        known = provenance([])
        return {name: known[name] for name in ("commit", "dirty", "cores")} | {
            "parameters": sum(leaf.size for leaf in leaves),
            "tensors": [(view.shape, kind == "hidden") for view, kind in pairs],
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        }


class Chain:
    """`words` are those of the block `optim`, without a schedule."""

    def __init__(self, *, folder: str, words: dict[str, Any]):
        task, key = task_of(), jax.random.key(0)
        tx, _ = optim.make(schedule=CONSTANT, num_steps=10_000, **words)
        self._params = jax.jit(task.init)(key)
        self._state = jax.jit(tx.init)(self._params)
        structure = jax.tree.structure(self._params)
        self._grads = [
            jax.device_put(structure.unflatten(leaves))
            for leaves in problem.load(folder)
        ]
        self._batches, self._num_steps = problem.batches(), 0

        def update(params, state, grads, batch, step):
            extra = functions_of(task, batch, jax.random.fold_in(key, step))
            updates, state = tx.update(grads, state, params, step=step, **extra)
            return optax.apply_updates(params, updates), state

        hidden = jax.tree.leaves(jax.tree.map("hidden".__eq__, KINDS(self._params)))
        self._watched = hidden.index(True)
        self._start = self._matrix().copy()
        self._update = jax.jit(update, donate_argnums=(0, 1))
        for _ in range(problem.FIRST_STEPS - 1):
            self.step()

    def step(self) -> None:
        which = self._num_steps % problem.NUM_BATCHES
        self._params, self._state = self._update(
            self._params,
            self._state,
            self._grads[which],
            self._batches[which],
            np.int32(self._num_steps),
        )
        self._num_steps += 1

    def wait(self, loss: None) -> float:
        """How far the first layer's first hidden matrix has moved."""
        del loss
        jax.block_until_ready((self._params, self._state))
        return float(np.linalg.norm(self._matrix() - self._start))

    def multiply(self) -> None:
        """Nothing is compared with the peak."""

    def facts(self) -> dict[str, Any]:
        leaves = jax.tree.leaves(self._state)
        return {"state_bytes": sum(leaf.nbytes for leaf in leaves)}

    def _matrix(self) -> np.ndarray:
        return np.asarray(jax.tree.leaves(self._params)[self._watched])[0]


def make(**settings: Any) -> Gradients | Chain:
    """Gradients where there are no words of a chain."""
    return Chain(**settings) if "words" in settings else Gradients(**settings)


if __name__ == "__main__":
    turns.serve(make)
