"""Every place of a config, and who may stand there."""

from typing import NamedTuple

from core.registry import Block, Entry, Range
from core.types import Number
from data import PACKING, SOURCES, TOKENIZER
from models import MODELS
from models.decode import DECODERS
from optim import OPTIM, RULES, SCHEDULES
from tasks import TASKS
from train.checkpoints import CHECKPOINT
from train.guard import GUARD


class Run(NamedTuple):
    """The top of a config: one of the three lengths is more than zero."""

    batch_size: int  # packed rows a step, over all devices
    num_steps: int = 0
    num_tokens: int = 0  # of source and target together
    num_epochs: Number = 0.0
    seed: int = 0
    pieces: int = 1  # microbatches a step
    log_every: int = 50  # steps
    init_from: str = ""  # the folder of a run, whose parameters are the first


class Evaluate(NamedTuple):
    """How often validation is scored; 0 is at the end only."""

    every_steps: int = 0


def check_run(
    *,
    batch_size: int,
    num_steps: int,
    num_tokens: int,
    num_epochs: float,
    pieces: int,
    **_,
) -> None:
    """Raises ValueError unless the run has one length and whole pieces."""
    lengths = dict(num_steps=num_steps, num_tokens=num_tokens, num_epochs=num_epochs)
    if sum(length > 0 for length in lengths.values()) != 1:
        stated = ", ".join(f"{key}={length}" for key, length in lengths.items())
        raise ValueError(f"{stated}: exactly one of them must be more than 0.")
    if batch_size % pieces:
        raise ValueError(f"{pieces=} must divide {batch_size=}.")


COUNT = Range("[1, inf)")
AMOUNT = Range("[0, inf)")

RUN = Entry(
    Run,
    "",
    {
        "batch_size": COUNT,
        "num_steps": AMOUNT,
        "num_tokens": AMOUNT,
        "num_epochs": AMOUNT,
        "seed": Range("[0, 4294967296)"),
        "pieces": COUNT,
        "log_every": COUNT,
    },
    check_run,
)
EVALUATE = Entry(Evaluate, "", {"every_steps": AMOUNT})
SCHEMA = {
    "": Block(RUN),
    "data": Block(SOURCES),
    "tokenizer": Block(TOKENIZER, given=("texts",)),
    "packing": Block(PACKING),
    "model": Block(MODELS, given=("vocab", "parent", "name")),
    "task": Block(TASKS, given=("model",)),
    "optim": Block(OPTIM, given=("num_steps", "factors")),
    "optim.rule": Block(RULES),
    "optim.schedule": Block(SCHEDULES, given=("num_steps",)),
    "guard": Block(GUARD),
    "checkpoint": Block(CHECKPOINT, given=("folder", "read_only")),
    "evaluate": Block(EVALUATE),
    "decode": Block(DECODERS),
}

# The blocks that shape the compiled programs; their floats are its inputs. So are those
# of `decode`, whose programs are apart.
PROGRAM = ("model", "task", "optim", "optim.rule", "optim.schedule", "guard")
