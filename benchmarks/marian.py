"""Hugging Face's Marian in eager torch, as a contestant.

Runs under any Python that has torch and transformers; Steepest itself is not needed.
"""

import ctypes
import importlib.metadata
import mmap
import os
import pathlib
import platform
from typing import Any

import problem
import torch
import turns
from transformers import MarianConfig, MarianMTModel

LIBRARIES = ("torch", "transformers")
CHECK = "mkl_serv_intel_cpu_true"
RETURN_ONE = bytes.fromhex("b801000000c3")  # x86-64: mov eax, 1; ret
READ, WRITE, EXECUTE = 1, 2, 4  # of mprotect


class Marian:
    """Random weights at the sizes of `problem.py`; full rows, so it needs no mask."""

    def __init__(self, *, dropout: float, unlocked: bool):
        self._was_intel = vendor_check_passes() if not unlocked else None
        if unlocked:
            unlock()
        torch.set_num_threads(usable_cores())
        torch.manual_seed(0)
        self._model = MarianMTModel(config_of(dropout)).train()
        self._params = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._params,
            lr=problem.RATE,
            betas=(problem.B1, problem.B2),
            eps=problem.EPS,
            weight_decay=problem.DECAY,
            fused=True,
        )
        self._batches, self._num_steps = problem.batches(), 0
        self._square = torch.randn(problem.GEMM_SIZE, problem.GEMM_SIZE)

    def step(self) -> torch.Tensor:
        source_BM, target_BL = self._batches[self._num_steps % len(self._batches)]
        self._num_steps += 1
        loss = self._model(
            input_ids=torch.from_numpy(source_BM), labels=torch.from_numpy(target_BL)
        ).loss
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def wait(self, loss: torch.Tensor) -> float:
        return float(loss)

    def multiply(self) -> None:
        torch.mm(self._square, self._square)

    def facts(self) -> dict[str, Any]:
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        return {
            "parameters": sum(p.numel() for p in self._params),
            "vendor_check_passes": self._was_intel,
            "versions": {"Python": platform.python_version()} | versions,
        }


def config_of(dropout: float) -> MarianConfig:
    """The sizes of `problem.py`."""
    return MarianConfig(
        vocab_size=problem.VOCAB,
        d_model=problem.WIDTH,
        encoder_layers=problem.NUM_LAYERS,
        decoder_layers=problem.NUM_LAYERS,
        encoder_ffn_dim=problem.MLP_WIDTH,
        decoder_ffn_dim=problem.MLP_WIDTH,
        encoder_attention_heads=problem.NUM_HEADS,
        decoder_attention_heads=problem.NUM_HEADS,
        max_position_embeddings=problem.LENGTH,
        activation_function="relu",
        scale_embedding=True,
        dropout=dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=0,
        eos_token_id=problem.EOS,
        forced_eos_token_id=problem.EOS,
        decoder_start_token_id=3,
        attn_implementation="sdpa",
    )


def unlock() -> None:
    """Makes MKL take every CPU for one of its vendor's, before the first product.

    MKL is linked into torch, so its check is overwritten in this process's memory.

    Raises:
      RuntimeError: there is no such check here, or its page is not to be written.
    """
    check = _vendor_check()
    if check is None or platform.machine() not in ("x86_64", "AMD64"):
        raise RuntimeError(f"This torch has no {CHECK} that could be lifted.")
    address = ctypes.cast(check, ctypes.c_void_p).value
    page = address // mmap.PAGESIZE * mmap.PAGESIZE
    size = address + len(RETURN_ONE) - page

    def protect(rights: int) -> None:
        if ctypes.CDLL(None, use_errno=True).mprotect(
            ctypes.c_void_p(page), ctypes.c_size_t(size), rights
        ):
            why = os.strerror(ctypes.get_errno())
            raise RuntimeError(f"MKL's vendor check cannot be lifted: {why}.")

    protect(READ | WRITE | EXECUTE)
    ctypes.memmove(address, RETURN_ONE, len(RETURN_ONE))
    protect(READ | EXECUTE)
    if check() != 1:
        raise RuntimeError("MKL's vendor check was lifted and still does not pass.")


def vendor_check_passes() -> bool | None:
    """Whether MKL takes this CPU for its vendor's; None where torch has no MKL."""
    check = _vendor_check()
    return None if check is None else bool(check())


def _vendor_check() -> Any:
    library = pathlib.Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return getattr(ctypes.CDLL(str(library)), CHECK)
    except (OSError, AttributeError):
        return None


def usable_cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    turns.serve(Marian)
