"""A config small enough to sweep in a test, and what may stand in it."""

import math

from core.registry import Block, Entry, Range
from core.types import Number


def top(
    *,
    peak: Number = 0.1,
    decay: Number = 0.0,
    clip: Number = math.inf,
    width: int = 8,
    on: bool = False,
    langs: tuple[str, ...] = ("de",),
    seed: int = 0,
):
    """The top of the config."""


def adam(*, b1: Number = 0.9, b2: Number = 0.95):
    """A rule with two numbers."""


def mix(*, b1: Number = 0.9, b3: Number = 0.999):
    """A rule with another second number."""


def lion(*, b1: Number = 0.95):
    """A rule with one."""


def text(*, seed: int = 0):
    """Data with a seed."""


SHARE = Range("[0, 1)")
RULES = {name.__name__: Entry(name, "", {"b1": SHARE}) for name in (adam, mix, lion)}
RANGES = {"decay": SHARE, "clip": Range("(0, inf]"), "width": Range("[1, inf)")}
BLOCKS = {"": Block(Entry(top, "", RANGES)), "rule": Block(RULES)}
SEEDED = {**BLOCKS, "data": Block(Entry(text, ""))}
CONFIG = {"rule": {"name": "adam"}}
