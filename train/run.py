"""From a config to a trained run folder."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import logging

from core.exits import NUMERICS, Stop
from core.registry import build
from core.types import Config
from train import curves, fingerprint, measure
from train.assemble import (
    Inputs,
    Parts,
    assemble,
    batch_at,
    check,
    inputs_of,
    placed_batches,
    validate,
)
from train.checkpoints import CHECKPOINT, Checkpoints
from train.clock import Clock
from train.evaluated import evaluated, params_of
from train.folder import Folder, locked
from train.guard import GUARD
from train.keeper import Best, Enough, Keeper
from train.logs import Metrics, read_metrics, write_json
from train.loop import Hook, ahead, always, fit
from train.preemption import Preemption
from train.progress import Progress
from train.range_test import draw, is_range_test, until_numerics
from train.report import Report
from train.step import Scores, TrainState
from train.summary import summed_up
from train.trace import trace_hook
from train.xla_cache import use_compilation_cache


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
    config, inputs = parts.config, inputs_of(parts)
    state = _first_state(parts, inputs, checkpoints)
    first = int(state.step)
    with (
        Metrics(folder.path) as metrics,
        Progress(parts.num_steps, first) as progress,
        Preemption() as preemption,
    ):
        if first >= parts.num_steps:
            progress.say(f"{folder.path} has all of its {parts.num_steps} steps.")
            return _finish(parts, folder, checkpoints, first)
        metrics.cut(first)
        past = read_metrics(folder.path)
        patience = config["evaluate"]["patience"]
        best = Best(config["checkpoint"]["best"], patience, past)
        if best.enough:
            progress.say(f"{folder.path} was ended early: {best.verdict}")
            return _finish(parts, folder, checkpoints, first)
        step = _step(parts, inputs, state)
        hooks = _hooks(
            parts,
            inputs,
            checkpoints,
            facts,
            best=best,
            past=past,
            watched=(metrics, progress, preemption),
        )
        if profile:
            hooks.append(trace_hook(folder.trace, first))

        batches = ahead(placed_batches(parts, first), 2)
        try:
            numbers = range(first + 1, parts.num_steps + 1)
            fit(state, step, batches, numbers=numbers, hooks=hooks)
        except Enough as enough:
            progress.say(f"Ended early: {enough}")
        except Stop as stop:
            if stop.code == NUMERICS:
                _finish(parts, folder, checkpoints, metrics.last_step, str(stop))
            raise
        progress.say(f"Trained. Curves: {folder.path / 'curves.png'}")
    return _finish(parts, folder, checkpoints, metrics.last_step)


def _step(
    parts: Parts, inputs: Inputs, state: TrainState
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Scores]]:
    """The step from `state` on, compiled for the batches of every phase to come."""
    given, first = (inputs.key, inputs.values), int(state.step)
    starts = [first, *(x.until for x in parts.batches.phases[:-1] if x.until > first)]
    compiled = {}
    for batch in (batch_at(parts, number) for number in starts):
        compiled[_form(batch)] = parts.program.compile_step(state, batch, *given)

    def step(state, batch):
        return compiled[_form(batch)](state, batch, *given)

    return step


def _form(batch: dict[str, jax.Array]) -> tuple[int, ...]:
    return next(iter(batch.values())).shape


def _hooks(
    parts: Parts,
    inputs: Inputs,
    checkpoints: Checkpoints,
    facts: fingerprint.Fingerprint,
    *,
    best: Best,
    past: Sequence[dict[str, Any]],
    watched: tuple[Metrics, Progress, Preemption],
) -> list[Hook]:
    """What follows a step: the run tells of it, then keeps it."""
    config, tests_rates = parts.config, is_range_test(parts.config)
    metrics, progress, preemption = watched
    report = Report(
        metrics,
        progress,
        Clock(past[-1]["seconds"] if past else 0.0),
        judge=build(GUARD, config["guard"]),
        tokens_after=parts.batches.tokens_before,
        validate=lambda state: validate(parts, evaluated(state), inputs),
        memory_bytes=parts.program.memory_bytes,
        log_every=1 if tests_rates else config["log_every"],
        evaluate_every=config["evaluate"]["every_steps"],
        num_steps=parts.num_steps,
        beside=_beside(parts, inputs),
    )
    keeper = Keeper(
        checkpoints,
        report,
        metrics,
        preemption,
        facts,
        best=best,
        num_steps=parts.num_steps,
    )
    tell = until_numerics(report) if tests_rates else report
    return [
        Hook(always, report.tick),
        Hook(report.due, tell),
        Hook(always, keeper),
    ]


def _beside(parts: Parts, inputs: Inputs) -> measure.Beside:
    """What is measured after a step, on the batch that the step was trained on."""

    def run(name, function, state, batch):
        args = (state, batch, inputs.key, inputs.values)
        return parts.program.measure(name, function, *args)

    def batch_of(step):
        return batch_at(parts, step - 1)

    block = measure.Measure(**parts.config["measure"])
    return measure.beside(block, run, batch_of, pieces=parts.config["pieces"])


def _first_state(parts: Parts, inputs: Inputs, checkpoints: Checkpoints) -> TrainState:
    """Restored, or fresh, or fresh with the parameters of another run."""
    program, other = parts.program, parts.config["init_from"]
    shape = program.shape(inputs.values, inputs.key)
    if checkpoints.started:
        return checkpoints.restore(shape)[1]
    if other:
        params = params_of(Folder(other), parts, shape.params)
        return program.start_at(inputs.values, params)  # the optimizer may keep them
    return program.init(inputs.values, inputs.key)


def _finish(
    parts: Parts,
    folder: Folder,
    checkpoints: Checkpoints,
    steps: int,
    diverged: str = "",
) -> dict[str, Any]:
    """Waits for the last checkpoint, draws the curves, writes the summary.

    A summary of so many steps is there if the run was finished before: it stays.
    """
    checkpoints.close()
    summary = folder.read_summary()
    if summary.get("steps") == steps:
        return summary
    curves.draw(folder.path)
    lines = [line for line in read_metrics(folder.path) if line["step"] <= steps]
    seconds = parts.program.compile_seconds
    summary |= summed_up(parts, lines, checkpoints, seconds, diverged)
    if is_range_test(parts.config):
        summary |= draw(folder.path)
    write_json(folder.summary, summary)
    return summary


def _tokenizer(config: Config, folder: Folder) -> bytes | None:
    """That of the run here, or of the run it starts from; None where one is trained."""
    if folder.provenance.is_file():
        return folder.read_tokenizer()
    other = config["init_from"]
    return Folder(other).read_tokenizer() if other else None
