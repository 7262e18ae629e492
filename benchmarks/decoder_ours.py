"""This repository's decoder and loss, as a contestant: forward and backward."""

import importlib.metadata
from typing import Any

import decoder_problem as problem
import jax
import jax.numpy as jnp
import numpy as np
import turns
from problem import GEMM_SIZE

from models.decoder import Decoder
from tasks.language import Language
from train.provenance import provenance

LIBRARIES = ("jax", "jaxlib", "flax")


class Ours:
    """Pre-norm, learned positions, GELU, biases: GPT-2 as a config."""

    def __init__(self, *, length: int, implementation: str, chunk: int, pieces: int):
        model = Decoder(
            vocab=problem.VOCAB,
            width=problem.WIDTH,
            num_heads=problem.NUM_HEADS,
            num_layers=problem.NUM_LAYERS,
            mlp_width=problem.MLP_WIDTH,
            activation="gelu_tanh",
            bias=True,
            position="learned",
            max_length=length,
            embed="plain",
            implementation=implementation,
            unroll=problem.NUM_LAYERS,
        )
        task = Language(model, chunk=chunk)
        self._params = jax.jit(task.init)(jax.random.key(0))
        self._batches, self._num_steps = problem.batches(length), 0
        key = jax.random.key(0)

        def objective(params, rows):
            return task.score(params, rows, key, train=True)["objective"].total

        def step(params, batch):
            rows = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), batch)
            differentiate = jax.value_and_grad(objective)

            def add(total, piece):
                return jax.tree.map(jnp.add, total, differentiate(params, piece)), None

            first = differentiate(params, jax.tree.map(lambda x: x[0], rows))
            rest = jax.tree.map(lambda x: x[1:], rows)
            loss, grads = jax.lax.scan(add, first, rest)[0]
            return loss / batch["target_BL"].size, grads

        self._step = jax.jit(step)
        square = jax.random.normal(key, (GEMM_SIZE, GEMM_SIZE))
        self._square, self._product = square, jax.jit(jnp.matmul)

    def step(self) -> Any:
        input_BL, target_BL = self._batches[self._num_steps % problem.NUM_BATCHES]
        self._num_steps += 1
        batch = dict(input_BL=input_BL, target_BL=target_BL)
        batch["segment_BL"] = np.ones_like(input_BL)
        batch = {name: array.astype(np.int32) for name, array in batch.items()}
        return self._step(self._params, batch)

    def wait(self, loss: Any) -> float:
        return float(jax.block_until_ready(loss)[0])

    def multiply(self) -> None:
        self._product(self._square, self._square).block_until_ready()

    def facts(self) -> dict[str, Any]:
        known = provenance([])
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        return {
            "commit": known["commit"],
            "dirty": known["dirty"],
            "cores": known["cores"],
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._params)),
            "versions": versions,
        }


if __name__ == "__main__":
    turns.serve(Ours)
