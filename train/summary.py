"""What came of a run: `summary.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.assemble import Parts, flops_of
from train.checkpoints import Checkpoints
from train.flops import peak_flops


def summed_up(
    parts: Parts,
    lines: Sequence[Mapping[str, Any]],
    checkpoints: Checkpoints,
    compile_seconds: float,
    diverged: str = "",
) -> dict[str, Any]:
    """The summary of a run that ends with the last of its log's lines.

    `diverged` says why the guard ended it, if it did.
    """
    last = lines[-1]
    steps, seconds, tokens = last["step"], last["seconds"], last["tokens"]
    flops = flops_of(parts, tokens)
    peak = peak_flops(parts.config["model"]["dtype"])
    summary = {
        "steps": steps,
        "stopped_early": steps < parts.num_steps,
        "tokens": tokens,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "tokens_per_second": tokens / seconds,
        "model_flops": flops,
        "mfu": None if peak is None else flops / seconds / peak,
        "loss": last["loss"],
        "val_loss": next((x["val_loss"] for x in lines[::-1] if "val_loss" in x), None),
        "best_step": checkpoints.best_step,
        "parameters": parts.program.num_parameters(parts.values),
    }
    return summary | ({"diverged": diverged} if diverged else {})
