"""Tiny configs for the tests of whole runs, and what makes them quick."""

import pathlib
from typing import Any

from core.overrides import resolve
from data import cache
from launch import load
from train.logs import write_bytes
from train.schema import SCHEMA

TINY = "experiments/localize.py:tiny"


def tiny(**overrides: Any) -> dict[str, Any]:
    """The tiny localisation, with dotted keys written as `optim__schedule__peak`."""
    return _resolved(TINY, overrides)


def reading(**overrides: Any) -> dict[str, Any]:
    """The tiny language model, on a text in `text_folder()`; keys as above.

    Of all configs it compiles soonest.
    """
    given = dict(data__folder=text_folder(), data__train="squares.txt") | overrides
    return _resolved("experiments/shakespeare.py:tiny", given)


def text_folder() -> pathlib.Path:
    """Where squares.txt is, in which there is something to learn."""
    folder = cache.root() / "squares"
    if not folder.is_dir():
        lines = (f"{n * n} is the square of {n}, so they say. " for n in range(400))
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "squares.txt", "".join(lines).encode())
    return folder


def _resolved(experiment: str, overrides: dict[str, Any]) -> dict[str, Any]:
    texts = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    return resolve(load(experiment), texts, SCHEMA)[0]


# The least that a step can be, for tests of what is around it: it compiles in half the
# time of the usual one.
PLAIN = dict(
    optim__rule__name="gradient_descent", optim__clip_norm="inf", optim__decay="0.0"
)
