"""Causal attention of torch, `scaled_dot_product_attention`, as a contestant.

Runs under any Python that has torch; Steepest itself is not needed.
"""

import importlib.metadata
from typing import Any

import attention_problem as problem
import torch
import turns
from marian import unlock, usable_cores
from problem import GEMM_SIZE


class Attention:
    """Full rows; heads lie first, as torch wants them."""

    def __init__(self, *, length: int, unlocked: bool):
        if unlocked:
            unlock()
        torch.set_num_threads(usable_cores())
        made = [torch.from_numpy(x) for x in problem.arrays(length)]
        *given, self._along = [x.transpose(1, 2).contiguous() for x in made]
        self._given = [x.requires_grad_() for x in given]
        self._square = torch.randn(GEMM_SIZE, GEMM_SIZE)

    def step(self) -> torch.Tensor:
        out = torch.nn.functional.scaled_dot_product_attention(
            *self._given, is_causal=True, scale=1.0
        )
        energy = (out * self._along).sum()
        torch.autograd.grad(energy, self._given)
        return energy.detach()

    def wait(self, loss: torch.Tensor) -> float:
        return float(loss)

    def multiply(self) -> None:
        torch.mm(self._square, self._square)

    def facts(self) -> dict[str, Any]:
        return {"versions": {"torch": importlib.metadata.version("torch")}}


if __name__ == "__main__":
    turns.serve(Attention)
