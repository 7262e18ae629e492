"""Tiny configs for the tests of whole runs, and what makes them quick."""

from typing import Any

from core.overrides import resolve
from launch import load
from train.schema import SCHEMA

TINY = "experiments/localize.py:tiny"


def tiny(**overrides: Any) -> dict[str, Any]:
    """The tiny localisation, with dotted keys written as `optim__schedule__peak`."""
    texts = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    config, _ = resolve(load(TINY), texts, SCHEMA)
    return config


# The least that a step can be, for tests of what is around it: it compiles in half the
# time of the usual one.
PLAIN = dict(
    optim__rule__name="gradient_descent", optim__clip_norm="inf", optim__decay="0.0"
)
