"""Numbers are inputs: a config's floats as arguments of the compiled program.

`split` takes them out of a concrete config, `join` puts tracers in their places. What
is left is static: it shapes the program. A float at its neutral value stays static, so
that what is off leaves no trace in the program.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from core.registry import Block
from core.types import Config

Values = dict[str, np.ndarray]


def split(
    config: Config,
    blocks: Mapping[str, Block],
    whole: Collection[str] = (),
    on: Collection[str] = (),
) -> Values:
    """The inputs of the program that `config` describes, by dotted key.

    `blocks` are the places of the config that enter the program; of those named in
    `whole` the ints are inputs too (a sweep over warmups is one program), and tuples,
    which are of floats there. A float that is named in `on` is an input at its neutral
    value, too: another trial of the same program has another.

    >>> from core.registry import Entry, Range
    >>> rate = Entry(lambda *, rate: rate, "", {"rate": Range("[0, 1)", neutral=0.0)})
    >>> blocks = {"a": Block(rate), "b": Block(rate)}
    >>> split({"a": {"rate": 0.5}, "b": {"rate": 0.0}}, blocks)
    {'a.rate': array(0.5, dtype=float32)}
    >>> list(split({"a": {"rate": 0.5}, "b": {"rate": 0.0}}, blocks, on=["b.rate"]))
    ['a.rate', 'b.rate']
    """
    values = {}
    for where, block in blocks.items():
        part = at(config, where)
        ranges, takes = block.entry(part, where).ranges, block.options(part, where)
        for key, value in part.items():
            name = f"{where}.{key}"
            if key in takes and takes[key].annotation is float:
                continue  # it shapes the program, like an int
            if type(value) is float:
                neutral = key in ranges and value == ranges[key].neutral
                if name in on or not neutral:
                    values[name] = np.asarray(value, np.float32)
            elif where in whole and type(value) is int:
                values[name] = np.asarray(value, np.int32)
            elif where in whole and type(value) is tuple:
                values[name] = np.asarray(value, np.float32)
    return values


def join(config: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `values` in their places, as new nested dicts.

    >>> join({"a": {"rate": 0.5, "name": "x"}}, {"a.rate": 0.25})
    {'a': {'rate': 0.25, 'name': 'x'}}
    """

    def copy(part: Config, prefix: str) -> dict[str, Any]:
        return {
            key: copy(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else values.get(f"{prefix}{key}", value)
            for key, value in part.items()
        }

    return copy(config, "")


def at(config: Config, where: str) -> Config:
    """The block of `config` at a dotted path; the config itself at the empty one."""
    for key in filter(None, where.split(".")):
        config = config[key]
    return config


def off(value: Any, neutral: float) -> bool:
    """Whether a number is written as its neutral value: then leave it out.

    The one look at a float that a builder may take; a traced number is always on.
    """
    return isinstance(value, float) and value == neutral
