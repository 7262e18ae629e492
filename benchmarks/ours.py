"""This repository's step, as a contestant: compiled as a run compiles it."""

import importlib.metadata
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import problem
import turns

from core.overrides import resolve
from train import mesh as meshes
from train.program import program_of
from train.provenance import provenance
from train.schema import PROGRAM, SCHEMA

NUM_STEPS = 10_000  # more than any race has; the rate is constant
LIBRARIES = ("jax", "jaxlib", "flax", "optax")


def config_of(*, dropout: float, pieces: int) -> dict[str, Any]:
    """The resolved config, of the blocks that shape the step."""
    config = dict(
        batch_size=problem.NUM_ROWS,
        num_steps=NUM_STEPS,
        pieces=pieces,
        model=dict(
            name="encoder_decoder",
            width=problem.WIDTH,
            mlp_width=problem.MLP_WIDTH,
            num_heads=problem.NUM_HEADS,
            num_encoder_layers=problem.NUM_LAYERS,
            num_decoder_layers=problem.NUM_LAYERS,
            norm="post",  # as Marian has it
            unroll=4,
            dropout=dropout,
            attention_dropout=0.0,
            dtype="float32",
        ),
        task=dict(name="translation", smoothing=0.0),
        optim=dict(
            clip_norm=math.inf,
            decay=problem.DECAY,
            rule=dict(name="adamw", b1=problem.B1, b2=problem.B2, eps=problem.EPS),
            schedule=dict(name="constant", peak=problem.RATE, warmup_steps=0),
        ),
    )
    blocks = {where: SCHEMA[where] for where in ("", *PROGRAM)}
    return resolve(config, {}, blocks)[0]


class Ours:
    """Batches are placed on the device within the step's time, as in a run."""

    def __init__(self, *, dropout: float, pieces: int):
        mesh = meshes.make_mesh()
        program, values = program_of(
            config_of(dropout=dropout, pieces=pieces),
            num_steps=NUM_STEPS,
            vocab=problem.VOCAB,
            mesh=mesh,
        )
        self._mesh, fixed = mesh, meshes.everywhere(mesh)
        self._values = jax.device_put(values, fixed)
        self._key = jax.device_put(jax.random.key(0), fixed)
        self._batches = [_packed(*pair) for pair in problem.batches()]
        self._state = program.init(self._values, self._key)
        batch = meshes.place_rows(mesh, self._batches[0])
        params = self._state.params
        self._facts = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "forward_flops": program.task(values).forward_flops(params, batch),
        }
        self._compiled = program.compile_step(
            self._state, batch, self._key, self._values
        )
        self._facts["compile_seconds"] = program.compile_seconds
        self._num_steps = 0
        side = problem.GEMM_SIZE
        self._square = jax.random.normal(self._key, (side, side))
        self._product = jax.jit(jnp.matmul)

    def step(self) -> jax.Array:
        batch = self._batches[self._num_steps % len(self._batches)]
        self._num_steps += 1
        placed = meshes.place_rows(self._mesh, batch)
        self._state, scores = self._compiled(
            self._state, placed, self._key, self._values
        )
        return scores["loss"]

    def wait(self, loss: Any) -> float:
        jax.block_until_ready(self._state)
        return float(loss.value)

    def multiply(self) -> None:
        self._product(self._square, self._square).block_until_ready()

    def facts(self) -> dict[str, Any]:
        known = provenance([])
        return self._facts | {
            "commit": known["commit"],
            "dirty": known["dirty"],
            "cores": known["cores"],
            "skipped": int(self._state.guard.num_skipped),
            "versions": {"Python": known["versions"]["python"]}
            | {name: importlib.metadata.version(name) for name in LIBRARIES},
        }


def _packed(source_BM: np.ndarray, target_BL: np.ndarray) -> dict[str, np.ndarray]:
    """One example a row, as the task wants it."""
    batch = {
        "source_BM": source_BM,
        "source_segment_BM": np.ones_like(source_BM),
        "target_BL": target_BL,
        "target_segment_BL": np.ones_like(target_BL),
    }
    return {name: array.astype(np.int32) for name, array in batch.items()}


if __name__ == "__main__":
    turns.serve(Ours)
