"""What of the block `decode` shapes a program, and what enters it."""

import json
from typing import NamedTuple

import numpy as np

from core import numbers
from core.registry import build
from core.types import Config
from models.decode import DECODERS
from train.schema import SCHEMA


class Decoding(NamedTuple):
    """The block `decode` of a config: what shapes the program, and its inputs.

    The seed is in neither: it comes in as keys. `beams` is what the cache must hold.
    """

    static: str
    beams: int
    values: dict[str, np.ndarray]


def decoding_of(config: Config) -> Decoding:
    """The block `decode` of a resolved config, for `Program.decode`."""
    block = {key: value for key, value in config["decode"].items() if key != "seed"}
    values = numbers.split({"decode": block}, {"decode": SCHEMA["decode"]})
    static = numbers.join({"decode": block}, dict.fromkeys(values, "an input"))
    beams = build(DECODERS, block, "decode").beams
    return Decoding(json.dumps(static), beams, values)
