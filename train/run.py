"""From a config to a trained run folder: the one file that knows every part."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from core.registry import build
from core.types import Config
from data.batches import Batches, in_order
from data.prepare import Prepared, prepare
from data.prepare import validate as validate_data
from optim import SCHEDULES
from train import curves, fingerprint
from train import mesh as meshes
from train.checkpoints import CHECKPOINT, Checkpoints, load_params
from train.clock import Clock
from train.flops import peak_flops
from train.folder import Folder, locked
from train.guard import GUARD
from train.keeper import Keeper
from train.logs import Metrics, read_metrics, write_json
from train.loop import Hook, ahead, fit
from train.preemption import Preemption
from train.program import Program, program_of, use_compilation_cache
from train.progress import Progress
from train.report import Report, Scores
from train.step import TrainState, eval_params
from train.trace import trace_hook


class Parts(NamedTuple):
    """A run, put together and not begun."""

    config: Config
    prepared: Prepared
    batches: Batches
    mesh: Mesh
    program: Program
    values: Mapping[str, np.ndarray]
    num_steps: int


def dry_run(config: Config) -> None:
    """All checks that need neither a device nor the tokenised data.

    Raises:
      ValueError, OSError: as `train` would, before it touches anything.
    """
    validate_data(config)
    if config["num_steps"]:
        _check_schedule(config, config["num_steps"])
    _check_rows(config)


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
    dry_run(config)
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


def assemble(config: Config, tokenizer: bytes | None = None) -> Parts:
    """Reads or makes the data, and puts the programs together.

    Raises:
      ValueError, OSError: what the user can mend.
    """
    prepared = prepare(config, tokenizer_model=tokenizer)
    batches = Batches(
        prepared.rows["train"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        **_host(),
    )
    num_steps = _length(config, batches)
    _check_schedule(config, num_steps)
    mesh = meshes.make_mesh()
    vocab = prepared.tokenizer.vocab
    program, values = program_of(config, num_steps=num_steps, vocab=vocab, mesh=mesh)
    return Parts(config, prepared, batches, mesh, program, values, num_steps)


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
            return folder.read_summary()
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
        hooks = [
            Hook(lambda _: True, report.tick),
            Hook(report.due, report),
            Hook(lambda _: True, keeper),
        ]
        if profile:
            hooks.append(trace_hook(folder.trace, first))

        def step(state, batch):
            return compiled(state, batch, inputs.key, inputs.values)

        batches = ahead(_placed(parts, first), 2)
        fit(state, step, batches, num_steps=parts.num_steps, hooks=hooks)
        progress.say(f"Trained. Curves: {folder.path / 'curves.png'}")
    return _finish(parts, folder, checkpoints, report)


class Inputs(NamedTuple):
    """What every call of the step gets beside the state, on the devices."""

    batch: dict[str, jax.Array]  # the first one: an example of the shapes
    key: Any
    values: dict[str, jax.Array]


def inputs_of(parts: Parts) -> Inputs:
    """As they are at the start of the run."""
    fixed = meshes.everywhere(parts.mesh)
    key = jax.random.key(parts.config["seed"])
    return Inputs(
        meshes.place_rows(parts.mesh, parts.batches.batch(0)),
        jax.device_put(key, fixed),
        jax.device_put(dict(parts.values), fixed),
    )


def _first_state(parts: Parts, inputs: Inputs, checkpoints: Checkpoints) -> TrainState:
    """Restored, or fresh, or fresh with the parameters of another run."""
    program, other = parts.program, parts.config["init_from"]
    key = jax.random.fold_in(inputs.key, 2**32 - 1)  # no step has this number
    if checkpoints.started:
        shape = program.shape(inputs.values, key)
        return checkpoints.restore(shape)[1]
    state = program.init(inputs.values, key)
    if not other:
        return state
    block = Folder(other).read_config()["checkpoint"]
    abstract = program.shape(inputs.values, key).params
    return state.replace(params=load_params(other, "best", abstract, block["best"]))


def validate(parts: Parts, params: Any, inputs: Inputs) -> Scores:
    """The task's scores over the whole validation split."""
    sums: Scores = {}
    with jax.transfer_guard("disallow"):
        rows, batch_size = parts.prepared.rows["validation"], parts.config["batch_size"]
        for batch in in_order(rows, batch_size=batch_size, **_host()):
            placed = meshes.place_rows(parts.mesh, batch)
            scores = parts.program.score(params, placed, inputs.key, inputs.values)
            sums = jax.tree.map(jnp.add, sums, scores) if sums else scores
    return sums


def _placed(parts: Parts, first: int) -> Iterator[dict[str, jax.Array]]:
    for number in range(first, parts.num_steps):
        yield meshes.place_rows(parts.mesh, parts.batches.batch(number))


def _finish(
    parts: Parts, folder: Folder, checkpoints: Checkpoints, report: Report
) -> dict[str, Any]:
    """Waits for the last checkpoint, draws the curves, writes the summary."""
    checkpoints.close()
    curves.draw(folder.path)
    last, program = report.latest, parts.program
    seconds, tokens = last["seconds"], int(last["tokens"])
    summary = folder.read_summary() | {
        "steps": parts.num_steps,
        "tokens": tokens,
        "seconds": seconds,
        "compile_seconds": program.compile_seconds,
        "tokens_per_second": tokens / seconds,
        "mfu": _mfu(parts, tokens, seconds),
        "loss": last["loss"],
        "val_loss": last["val_loss"],
        "best_step": checkpoints.best_step,
        "parameters": program.num_parameters(parts.values),
    }
    write_json(folder.summary, summary)
    return summary


def _mfu(parts: Parts, tokens: int, seconds: float) -> float | None:
    """The share of the devices' peak that useful tokens took; None without a peak.

    A training step is three forward passes; padding counts for nothing.
    """
    peak = peak_flops(parts.config["model"]["dtype"])
    if peak is None:
        return None
    rows = parts.prepared.rows["train"]
    row = {name: x[:1] for name, x in rows.items() if x.ndim == 2}
    params = parts.program.shape(parts.values, jax.random.key(0)).params
    flops = parts.program.task(parts.values).forward_flops(params, row)
    slots = sum(x.size for name, x in row.items() if "segment" in name)
    return 3 * flops / slots * tokens / seconds / peak


def _tokenizer(config: Config, folder: Folder) -> bytes | None:
    """That of the run here, or of the run it starts from; None where one is trained."""
    other = config["init_from"]
    return folder.read_tokenizer() or (other and Folder(other).read_tokenizer()) or None


def _length(config: Config, batches: Batches) -> int:
    """Steps: as stated, or as many as the stated tokens or epochs take at least."""
    if config["num_tokens"]:
        per_step = batches.tokens_per_epoch / batches.steps_per_epoch
        return max(1, math.ceil(config["num_tokens"] / per_step))
    if config["num_epochs"]:
        return max(1, math.ceil(config["num_epochs"] * batches.steps_per_epoch))
    return config["num_steps"]


def _check_schedule(config: Config, num_steps: int) -> None:
    """Raises ValueError where the schedule does not fit in the run."""
    options = dict(config["optim"]["schedule"])
    check = SCHEDULES[options.pop("name")].check
    if check is not None:
        check(**options, num_steps=num_steps)


def _check_rows(config: Config) -> None:
    """Raises ValueError where a batch cannot be shared out."""
    num_devices = len(meshes.devices())
    shares = config["pieces"] * num_devices
    if config["batch_size"] % shares:
        raise ValueError(
            f"batch_size={config['batch_size']} must be a multiple of {shares}: "
            f"pieces={config['pieces']} on each of {num_devices} devices."
        )


def _host() -> dict[str, int]:
    return dict(host=jax.process_index(), num_hosts=jax.process_count())
