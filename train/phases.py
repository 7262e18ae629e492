"""A run in phases: batches that grow, and texts that do."""

from typing import NamedTuple

from core.registry import Entry, Note, Range
from core.types import Config
from data.batches import Phase

COUNT = Range("[1, inf)")


class Phases(NamedTuple):
    """What batches are before each of the steps `until`; after the last, as usual.

    `batch_sizes` stand for the run's `batch_size`, `lengths` for `packing.length`: rows
    of a stream are cut into that much shorter ones, so a batch has the same tokens, and
    attention less to do. Either may be empty. Each shape is compiled before the first
    step.
    """

    until: tuple[int, ...] = ()  # steps
    batch_sizes: tuple[int, ...] = ()  # packed rows a step, over all devices
    lengths: tuple[int, ...] = ()  # tokens a row


def check_phases(
    *,
    until: tuple[int, ...] = (),
    batch_sizes: tuple[int, ...] = (),
    lengths: tuple[int, ...] = (),
) -> None:
    """Raises ValueError unless the phases follow each other and are told whole."""
    if any(later <= step for step, later in zip((0, *until), until, strict=False)):
        raise ValueError(f"phases.until={until} must rise from 1 on.")
    for name, given in (("batch_sizes", batch_sizes), ("lengths", lengths)):
        if given and len(given) != len(until):
            raise ValueError(
                f"phases.{name}={given} must have one for each of phases.until={until}."
            )
    if until and not batch_sizes and not lengths:
        raise ValueError(
            f"phases.until={until} needs phases.batch_sizes or phases.lengths."
        )


PROOF = "tests/test_phases.py"
PHASES = Entry(
    Phases,
    "",
    {"until": COUNT, "batch_sizes": COUNT, "lengths": COUNT},
    check_phases,
    words={
        "batch_sizes": Note(
            PROOF, source="Smith et al. 2018, https://arxiv.org/abs/1711.00489"
        ),
        "lengths": Note(
            PROOF, source="Press et al. 2021, https://arxiv.org/abs/2012.15832"
        ),
    },
)


def phases_of(config: Config) -> tuple[Phase, ...]:
    """The phases of a config before its last.

    Raises:
      ValueError: rows cannot be cut to such lengths.
    """
    block, count = Phases(**config["phases"]), len(config["phases"]["until"])
    sizes = block.batch_sizes or (config["batch_size"],) * count
    cuts = [_cuts(config["packing"], length) for length in block.lengths]
    return tuple(map(Phase, block.until, sizes, cuts or [1] * count))


def check_phases_end(config: Config, num_steps: int) -> None:
    """Raises ValueError where a phase is not over before the run is."""
    until = tuple(config["phases"]["until"])
    if until and until[-1] >= num_steps:
        raise ValueError(f"phases.until={until} must be over before {num_steps=}.")


def check_phases_share(config: Config, shares: int) -> None:
    """Raises ValueError where a batch has no equal shares, or rows cannot be cut."""
    for phase in phases_of(config):
        if phase.batch_size % shares:
            raise ValueError(
                f"phases.batch_sizes={tuple(config['phases']['batch_sizes'])} must be "
                f"multiples of {shares}, as batch_size."
            )


def _cuts(packing: Config, length: int) -> int:
    """How many rows of `length` a packed one makes."""
    if packing["name"] != "stream":
        raise ValueError(
            f"phases.lengths={length} needs packing.name='stream', whose rows may be "
            f"cut anywhere, and not {packing['name']!r}."
        )
    if length > packing["length"] or packing["length"] % length:
        raise ValueError(
            f"phases.lengths={length} must divide packing.length={packing['length']}."
        )
    return packing["length"] // length
