"""Tiny configs for the tests of whole runs."""

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
