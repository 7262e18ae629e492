"""Hugging Face's `generate` of the same shapes in eager torch, as a contestant.

Runs under any Python that has torch and transformers; Steepest itself is not needed.
"""

import importlib.metadata
from typing import Any

import decode_problem
import problem
import torch
import turns
from marian import LIBRARIES, config_of, unlock, usable_cores, vendor_check_passes
from transformers import GPT2Config, GPT2LMHeadModel, MarianMTModel

START = 3


class Generate:
    """Random weights; all rows full, and the cache that `generate` takes by itself."""

    def __init__(self, *, family: str, beams: int, unlocked: bool):
        self._was_intel = vendor_check_passes() if not unlocked else None
        if unlocked:
            unlock()
        torch.set_num_threads(usable_cores())
        torch.manual_seed(0)
        make = {"translation": _marian, "language": _gpt2}[family]
        self._model = make().eval()
        self._language = family == "language"
        self._beams, self._texts = beams, decode_problem.texts()
        self._num_steps = 0

    def step(self) -> torch.Tensor:
        text_BM = self._texts[self._num_steps % len(self._texts)]
        self._num_steps += 1
        given = torch.from_numpy(decode_problem.ended(text_BM))
        if self._language:  # START, and the text
            given = given.roll(1, dims=1)
            given[:, 0] = START
        with torch.inference_mode():
            found = self._model.generate(
                given,
                attention_mask=torch.ones_like(given),
                num_beams=self._beams,
                do_sample=False,
                max_new_tokens=decode_problem.NEW,
                **({"length_penalty": 0.6} if self._beams > 1 else {}),
            )
        return found[:, given.shape[1] if self._language else 1 :]

    def wait(self, token_BT: torch.Tensor) -> float:
        """The length of the longest answer."""
        return float((token_BT > 0).sum(1).max())

    def multiply(self) -> None:
        """Nothing is compared with the peak."""

    def facts(self) -> dict[str, Any]:
        return {
            "parameters": sum(p.numel() for p in self._model.parameters()),
            "vendor_check_passes": self._was_intel,
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        }


def _marian() -> MarianMTModel:
    return MarianMTModel(config_of(0.0))


def _gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=problem.VOCAB,
            n_positions=decode_problem.LENGTH + decode_problem.NEW,
            n_embd=problem.WIDTH,
            n_layer=decode_problem.NUM_DECODER_LAYERS,
            n_head=problem.NUM_HEADS,
            n_inner=problem.MLP_WIDTH,
            bos_token_id=START,
            eos_token_id=problem.EOS,
            pad_token_id=0,
            attn_implementation="sdpa",
        )
    )


if __name__ == "__main__":
    turns.serve(Generate)
