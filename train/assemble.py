"""A run, put together and not begun: its data, its programs, its length."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from core import numbers
from core.refusal import listed, nearest, shown
from core.types import Config
from data.batches import Batches, in_order
from data.prepare import Prepared, prepare
from data.prepare import validate as validate_data
from optim.sizes import sizes_of
from tasks.fit import check_fit
from train import mesh as meshes
from train.loop import total
from train.phases import check_phases_end, check_phases_share, phases_of
from train.program import Program, program_of
from train.schema import OF_LENGTH, SCHEMA
from train.step import Scores


class Parts(NamedTuple):
    """A run, put together and not begun."""

    config: Config
    prepared: Prepared
    batches: Batches
    mesh: Mesh
    program: Program
    values: Mapping[str, np.ndarray]
    num_steps: int


class Inputs(NamedTuple):
    """What every call of the step gets beside the state, on the devices."""

    batch: dict[str, jax.Array]  # the first one: an example of the shapes
    key: Any
    values: dict[str, jax.Array]


def check(config: Config, *, shares: int = 0) -> None:
    """What needs neither data nor a compiler.

    A batch is shared by so many devices, 0 all.

    Raises:
      ValueError: task, batches or schedule do not fit.
    """
    check_fit(config)
    if config["model"]["parametrization"] == "mup":
        sizes_of(config["optim"]["rule"])
    if config["num_steps"]:
        _check_length(config, config["num_steps"])
    num_devices = shares or len(meshes.devices())
    shares = config["pieces"] * num_devices
    if config["batch_size"] % shares:
        raise ValueError(
            f"batch_size={config['batch_size']} must be a multiple of {shares}: "
            f"pieces={config['pieces']} on each of {num_devices} devices."
        )
    check_phases_share(config, shares)


def dry_run(config: Config) -> None:
    """All checks that write nothing; the data are read.

    Raises:
      ValueError, OSError: as a run would, before its first step.
    """
    check(config)
    validate_data(config)


def assemble(config: Config, tokenizer: bytes | None = None) -> Parts:
    """Reads or makes the data, and puts the programs together.

    Raises:
      ValueError, OSError: what the user can mend.
    """
    return put_together(
        config, prepare(config, tokenizer_model=tokenizer), meshes.make_mesh()
    )


def put_together(
    config: Config, prepared: Prepared, mesh: Mesh, on: Collection[str] = ()
) -> Parts:
    """The parts of a run on prepared data; `on` as in `program_of`.

    Raises:
      ValueError: what the user can mend.
    """
    if "validation" not in prepared.rows:
        raise ValueError("data.validation='' leaves a run without a validation split.")
    batches = Batches(
        prepared.rows["train"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        phases=phases_of(config),
        **_host(),
    )
    num_steps = _length(config, batches)
    _check_length(config, num_steps)
    program, values = program_of(
        config,
        num_steps=num_steps,
        vocab=prepared.tokenizer.vocab,
        mesh=mesh,
        on=on,
    )
    _check_best(config, program.score_names(values, batches.batch(0)))
    return Parts(config, prepared, batches, mesh, program, values, num_steps)


def inputs_of(parts: Parts) -> Inputs:
    """As they are at the start of the run."""
    fixed = meshes.everywhere(parts.mesh)
    key = jax.random.key(parts.config["seed"])
    return Inputs(
        batch_at(parts, 0),
        jax.device_put(key, fixed),
        jax.device_put(dict(parts.values), fixed),
    )


def validate(parts: Parts, params: Any, inputs: Inputs) -> Scores:
    """The task's scores over the whole validation split."""
    rows, batch_size = parts.prepared.rows["validation"], parts.config["batch_size"]
    with jax.transfer_guard("disallow"):
        return total(
            parts.program.score(
                params,
                meshes.place_rows(parts.mesh, batch),
                inputs.key,
                inputs.values,
            )
            for batch in in_order(rows, batch_size=batch_size, **_host())
        )


def batch_at(parts: Parts, number: int) -> dict[str, jax.Array]:
    """A training batch, on the devices."""
    return meshes.place_rows(parts.mesh, parts.batches.batch(number))


def placed_batches(parts: Parts, first: int) -> Iterator[dict[str, jax.Array]]:
    """The training batches from a step on."""
    return (batch_at(parts, number) for number in range(first, parts.num_steps))


def flops_of(parts: Parts, tokens: int) -> float:
    """The operations of training on useful tokens.

    A training step is three forward passes; padding counts for nothing.
    """
    params = parts.program.shape(parts.values, jax.random.key(0)).params
    task, flops, slots = parts.program.task(parts.values), 0, 0
    for begin, end in parts.batches.spans(parts.num_steps):
        batch = parts.batches.batch(begin)
        part = end - begin
        flops += part * task.forward_flops(params, batch)
        slots += part * sum(x.size for name, x in batch.items() if "segment" in name)
    return 3 * flops / slots * tokens


def _length(config: Config, batches: Batches) -> int:
    """Steps: as stated, or as many as the stated tokens or epochs take at least."""
    if config["num_steps"]:
        return config["num_steps"]
    told = config["num_tokens"] / batches.tokens_per_epoch
    return max(1, batches.steps_of(epochs=told or config["num_epochs"]))


def _check_length(config: Config, num_steps: int) -> None:
    """Raises ValueError where a schedule, a phase or an average does not fit."""
    check_phases_end(config, num_steps)
    for where in OF_LENGTH:
        options = dict(numbers.at(config, where))
        check = SCHEMA[where].entry(options, where).check
        del options["name"]
        if check is None:
            continue
        try:
            check(**options, num_steps=num_steps)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _check_best(config: Config, names: Collection[str]) -> None:
    """Raises ValueError where the best checkpoint has no such score."""
    best, known = config["checkpoint"]["best"], [f"val_{name}" for name in names]
    if best not in known:
        raise ValueError(
            f"checkpoint.best={shown(best)} is not known.{nearest(best, known)} "
            f"Known: {listed(known)}."
        )


def _host() -> dict[str, int]:
    return dict(host=jax.process_index(), num_hosts=jax.process_count())
