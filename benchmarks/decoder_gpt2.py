"""Hugging Face's GPT-2 in eager torch, as a contestant: forward and backward.

Runs under any Python that has torch and transformers; Steepest itself is not needed.
"""

import importlib.metadata
from typing import Any

import decoder_problem as problem
import torch
import turns
from marian import LIBRARIES, unlock, usable_cores
from problem import GEMM_SIZE
from transformers import GPT2Config, GPT2LMHeadModel


class Gpt2:
    """Random weights; full rows, so it needs no mask but the causal one."""

    def __init__(self, *, length: int, unlocked: bool):
        if unlocked:
            unlock()
        torch.set_num_threads(usable_cores())
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=problem.VOCAB,
            n_positions=length,
            n_embd=problem.WIDTH,
            n_layer=problem.NUM_LAYERS,
            n_head=problem.NUM_HEADS,
            n_inner=problem.MLP_WIDTH,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            attn_implementation="sdpa",
        )
        self._model = GPT2LMHeadModel(config).train()
        self._batches, self._num_steps = problem.batches(length), 0
        self._square = torch.randn(GEMM_SIZE, GEMM_SIZE)

    def step(self) -> torch.Tensor:
        input_BL, target_BL = self._batches[self._num_steps % problem.NUM_BATCHES]
        self._num_steps += 1
        logit_BLV = self._model(input_ids=torch.from_numpy(input_BL)).logits
        loss = torch.nn.functional.cross_entropy(
            logit_BLV.flatten(0, 1), torch.from_numpy(target_BL).flatten()
        )
        loss.backward()
        self._model.zero_grad(set_to_none=True)
        return loss.detach()

    def wait(self, loss: torch.Tensor) -> float:
        return float(loss)

    def multiply(self) -> None:
        torch.mm(self._square, self._square)

    def facts(self) -> dict[str, Any]:
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        parameters = sum(p.numel() for p in self._model.parameters())
        return {"parameters": parameters, "versions": versions}


if __name__ == "__main__":
    turns.serve(Gpt2)
