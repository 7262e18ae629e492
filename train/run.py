"""From a config to a trained run folder."""

from collections.abc import Sequence
from typing import Any

from absl import logging

from core.registry import build
from core.types import Config
from train import curves, fingerprint
from train.assemble import (
    Inputs,
    Parts,
    assemble,
    check,
    inputs_of,
    mfu,
    placed_batches,
    validate,
)
from train.checkpoints import CHECKPOINT, Checkpoints, load_params
from train.clock import Clock
from train.folder import Folder, locked
from train.guard import GUARD
from train.keeper import Keeper
from train.logs import Metrics, read_metrics, write_json
from train.loop import Hook, ahead, always, fit
from train.preemption import Preemption
from train.program import use_compilation_cache
from train.progress import Progress
from train.report import Report
from train.step import TrainState, eval_params
from train.trace import trace_hook


def train(
    config: Config,
    workdir: str,
    *,
    allow_drift: Sequence[str] = (),
    profile: bool = False,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains what `config` describes in `workdir`, or goes on with it; the summary.

    Raises:
      ValueError, OSError: what the user can mend, before the first step.
      Stop: the run ended before its time.
    """
    use_compilation_cache()
    folder = Folder(workdir)
    check(config)
    parts = assemble(config, _tokenizer(config, folder))
    facts = fingerprint.take(config, data_digest=parts.prepared.digest)
    with locked(folder.path):
        drifts = folder.enter(
            config,
            facts,
            tokenizer=parts.prepared.tokenizer.model,
            allow_drift=allow_drift,
            command=command,
        )
        for drift in drifts:
            logging.warning("%s: allowed.", drift)
        block = config["checkpoint"]
        with build(CHECKPOINT, block, folder=folder.checkpoints) as checkpoints:
            return _go(parts, folder, checkpoints, facts, profile)


def _go(
    parts: Parts,
    folder: Folder,
    checkpoints: Checkpoints,
    facts: fingerprint.Fingerprint,
    profile: bool,
) -> dict[str, Any]:
    """The run itself, from its first or next step to its last."""
    config, program = parts.config, parts.program
    inputs = inputs_of(parts)
    state = _first_state(parts, inputs, checkpoints)
    first = int(state.step)
    with (
        Metrics(folder.path) as metrics,
        Progress(parts.num_steps, first) as progress,
        Preemption() as preemption,
    ):
        if first >= parts.num_steps:
            progress.say(f"{folder.path} has all of its {parts.num_steps} steps.")
            return _finish(parts, folder, checkpoints)
        metrics.cut(first)
        past = read_metrics(folder.path)
        compiled = program.compile_step(state, *inputs)
        clock = Clock(past[-1]["seconds"] if past else 0.0)
        report = Report(
            metrics,
            progress,
            clock,
            judge=build(GUARD, config["guard"]),
            tokens_after=parts.batches.tokens_before,
            validate=lambda state: validate(parts, eval_params(state), inputs),
            memory_bytes=program.memory_bytes,
            log_every=config["log_every"],
            evaluate_every=config["evaluate"]["every_steps"],
            num_steps=parts.num_steps,
        )
        keeper = Keeper(
            checkpoints,
            report,
            metrics,
            preemption,
            facts,
            best=config["checkpoint"]["best"],
            past=past,
            num_steps=parts.num_steps,
        )
        hooks = [Hook(always, report.tick), Hook(report.due, report)]
        hooks.append(Hook(always, keeper))
        if profile:
            hooks.append(trace_hook(folder.trace, first))

        def step(state, batch):
            return compiled(state, batch, inputs.key, inputs.values)

        batches = ahead(placed_batches(parts, first), 2)
        fit(state, step, batches, num_steps=parts.num_steps, hooks=hooks)
        progress.say(f"Trained. Curves: {folder.path / 'curves.png'}")
    return _finish(parts, folder, checkpoints)


def _first_state(parts: Parts, inputs: Inputs, checkpoints: Checkpoints) -> TrainState:
    """Restored, or fresh, or fresh with the parameters of another run."""
    program, other = parts.program, parts.config["init_from"]
    if checkpoints.started:
        shape = program.shape(inputs.values, inputs.key)
        return checkpoints.restore(shape)[1]
    state = program.init(inputs.values, inputs.key)
    if not other:
        return state
    block = Folder(other).read_config()["checkpoint"]
    abstract = program.shape(inputs.values, inputs.key).params
    return state.replace(params=load_params(other, "best", abstract, block["best"]))


def _finish(parts: Parts, folder: Folder, checkpoints: Checkpoints) -> dict[str, Any]:
    """Waits for the last checkpoint, draws the curves, writes the summary.

    A summary of this length is there if the run was finished before: it stays.
    """
    checkpoints.close()
    summary, program = folder.read_summary(), parts.program
    if summary.get("steps") == parts.num_steps:
        return summary
    curves.draw(folder.path)
    last = read_metrics(folder.path)[-1]
    seconds, tokens = last["seconds"], last["tokens"]
    summary |= {
        "steps": parts.num_steps,
        "tokens": tokens,
        "seconds": seconds,
        "compile_seconds": program.compile_seconds,
        "tokens_per_second": tokens / seconds,
        "mfu": mfu(parts, tokens, seconds),
        "loss": last["loss"],
        "val_loss": last["val_loss"],
        "best_step": checkpoints.best_step,
        "parameters": program.num_parameters(parts.values),
    }
    write_json(folder.summary, summary)
    return summary


def _tokenizer(config: Config, folder: Folder) -> bytes | None:
    """That of the run here, or of the run it starts from; None where one is trained."""
    if folder.provenance.is_file():
        return folder.read_tokenizer()
    other = config["init_from"]
    return Folder(other).read_tokenizer() if other else None
