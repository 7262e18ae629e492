"""Every place of a config, and who may stand there."""

from typing import Any, NamedTuple

from core.registry import Block, Entry, Note, Range
from core.types import Number
from data import PACKING, SOURCES, TOKENIZER
from models import MODELS
from models.decode import DECODERS
from optim import (
    AVERAGES,
    CONSTRAIN,
    GRADIENT,
    OPTIM,
    OUTER,
    PLATEAU,
    RULES,
    SCHEDULES,
    SHARES,
)
from tasks import TASKS
from train.checkpoints import CHECKPOINT
from train.guard import GUARD
from train.measure import MEASURE, Measure
from train.measure import check as check_measure
from train.phases import PHASES


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
    """How often validation is scored; 0 is at the end only.

    After `patience` scores in a row without a new best `checkpoint.best`, the run ends
    early; 0 is never.
    """

    every_steps: int = 0
    patience: int = 0


def check_run(
    *,
    batch_size: int,
    num_steps: int,
    num_tokens: int,
    num_epochs: float,
    pieces: int,
    measure: Any = None,
    **_,
) -> None:
    """Raises ValueError unless the run has one length and whole pieces, and enough."""
    lengths = dict(num_steps=num_steps, num_tokens=num_tokens, num_epochs=num_epochs)
    if sum(length > 0 for length in lengths.values()) != 1:
        stated = ", ".join(f"{key}={length}" for key, length in lengths.items())
        raise ValueError(f"{stated}: exactly one of them must be more than 0.")
    if batch_size % pieces:
        raise ValueError(f"{pieces=} must divide {batch_size=}.")
    check_measure(Measure(**measure or {}), pieces)


def check_evaluate(*, every_steps: int = 0, patience: int = 0) -> None:
    """Raises ValueError where patience would never end."""
    if patience and not every_steps:
        raise ValueError(
            f"evaluate.patience={patience} needs evaluate.every_steps above 0: it "
            "counts the scores on validation."
        )


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
EVALUATE = Entry(
    Evaluate,
    "",
    {"every_steps": AMOUNT, "patience": AMOUNT},
    check_evaluate,
    words={
        "patience": Note(
            "tests/test_evaluated.py",
            "train/keeper.py",
            source="Prechelt 1998, https://doi.org/10.1007/3-540-49430-8_3",
        )
    },
)
SHARE_OF = Block(SHARES, given=("num_steps", "peak"), default="none")
SCHEMA = {
    "": Block(RUN),
    "data": Block(SOURCES),
    "tokenizer": Block(TOKENIZER, given=("texts",)),
    "packing": Block(PACKING),
    "phases": Block(PHASES),
    "model": Block(MODELS, given=("vocab", "parent", "name")),
    "task": Block(TASKS, given=("model",)),
    "optim": Block(OPTIM, given=("num_steps", "factors")),
    "optim.rule": Block(RULES),
    "optim.schedule": Block(SCHEDULES, given=("num_steps",)),
    "optim.decay_schedule": SHARE_OF,
    "optim.b1_schedule": SHARE_OF,
    "optim.b2_schedule": SHARE_OF,
    "optim.gradient": Block(GRADIENT),
    "optim.constrain": Block(CONSTRAIN),
    "optim.plateau": Block(PLATEAU, given=("tx",)),
    "optim.outer": Block(OUTER, given=("tx",), default="none"),
    "optim.average": Block(AVERAGES, given=("tx",), default="none"),
    "guard": Block(GUARD),
    "checkpoint": Block(CHECKPOINT, given=("folder", "read_only")),
    "evaluate": Block(EVALUATE),
    "measure": Block(MEASURE),
    "decode": Block(DECODERS),
}

# Counts and tuples of these are inputs of the program, too: functions of the step.
OF_STEP = tuple(where for where in SCHEMA if where.endswith("schedule"))

# The blocks that a run can be too short for.
OF_LENGTH = (*OF_STEP, "optim.average")

# The blocks that shape the compiled programs; their floats are its inputs. So are those
# of `decode`, whose programs are apart.
PROGRAM = (
    "model",
    "task",
    "optim",
    "optim.rule",
    "optim.schedule",
    "optim.decay_schedule",
    "optim.b1_schedule",
    "optim.b2_schedule",
    "optim.gradient",
    "optim.constrain",
    "optim.plateau",
    "optim.outer",
    "optim.average",
    "guard",
    "measure",
)
