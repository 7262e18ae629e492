"""This repository's decoding, as a contestant: the two programs that a run uses."""

import importlib.metadata
from typing import Any

import decode_problem
import jax
import numpy as np
import problem
import turns

from core.overrides import resolve
from train import mesh as meshes
from train.decoding import decoding_of
from train.program import program_of
from train.provenance import provenance
from train.schema import PROGRAM, SCHEMA

LIBRARIES = ("jax", "jaxlib", "flax")
SHARED = dict(
    width=problem.WIDTH,
    num_heads=problem.NUM_HEADS,
    mlp_width=problem.MLP_WIDTH,
    bias=True,
)
MODELS = {
    "translation": dict(
        name="encoder_decoder",
        num_encoder_layers=problem.NUM_LAYERS,
        num_decoder_layers=problem.NUM_LAYERS,
        norm="post",  # as Marian has it
        **SHARED,
    ),
    "language": dict(
        name="decoder",
        num_layers=decode_problem.NUM_DECODER_LAYERS,
        activation="gelu_tanh",
        position="learned",
        max_length=decode_problem.LENGTH + decode_problem.NEW,
        embed="plain",
        **SHARED,
    ),
}


class Ours:
    """Tokens of text to tokens of answers, as `predict` does it."""

    def __init__(self, *, family: str, beams: int):
        decode = dict(name="greedy") if beams == 1 else dict(name="beam", beam=beams)
        config = dict(
            batch_size=problem.NUM_ROWS,
            num_steps=1,
            model=MODELS[family],
            task=dict(name=family),
            optim=dict(
                rule=dict(name="adam"), schedule=dict(name="constant", peak=1.0)
            ),
            decode=decode | dict(max_tokens=decode_problem.NEW),
        )
        config["optim"]["schedule"]["warmup_steps"] = 0
        blocks = {where: SCHEMA[where] for where in ("", *PROGRAM, "decode")}
        config = resolve(config, {}, blocks)[0]
        self._mesh = meshes.make_mesh()
        fixed = meshes.everywhere(self._mesh)
        self._program, values = program_of(
            config, num_steps=1, vocab=problem.VOCAB, mesh=self._mesh
        )
        decoding = decoding_of(config)
        given = values, decoding.values, jax.random.key(0)
        self._values, inputs, self._key = jax.device_put(given, fixed)
        self._decoding = decoding._replace(values=inputs)
        self._task = self._program.task(values)
        self._params = self._program.init(self._values, self._key).params
        self._texts, self._num_steps = decode_problem.texts(), 0

    def step(self) -> jax.Array:
        texts = self._texts[self._num_steps % len(self._texts)].tolist()
        self._num_steps += 1
        batch, room = self._task.ask(texts, max_tokens=decode_problem.NEW)
        batch["number_B"] = np.arange(len(texts), dtype=np.int32)
        placed = meshes.place_rows(self._mesh, batch)
        number_B = placed.pop("number_B")
        opening = self._program.prefill(
            self._params, placed, self._values, beams=self._decoding.beams, room=room
        )
        found = self._program.decode(
            self._params,
            opening,
            self._key,
            number_B,
            self._values,
            self._decoding,
            room=room,
        )
        return found.token_BRT

    def wait(self, token_BRT: Any) -> float:
        """The length of the longest answer."""
        return float((np.asarray(token_BRT[:, 0]) > 0).sum(1).max())

    def multiply(self) -> None:
        """Nothing is compared with the peak."""

    def facts(self) -> dict[str, Any]:
        known = provenance([])
        return {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._params)),
            "compile_seconds": self._program.compile_seconds,
            "commit": known["commit"],
            "dirty": known["dirty"],
            "cores": known["cores"],
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        }


if __name__ == "__main__":
    turns.serve(Ours)
