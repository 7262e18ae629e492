"""Which trials are one program: those that differ in its inputs and in seeds only."""

from collections.abc import Sequence
from typing import NamedTuple

from core.numbers import join
from core.settings import dump
from core.types import Config
from train.program import values_of


class Group(NamedTuple):
    """The trials of one program, by their place among all.

    `on` are the floats that one of them has on, so that they are inputs of all.
    """

    trials: tuple[int, ...]
    on: frozenset[str]


def grouped(configs: Sequence[Config]) -> list[Group]:
    """The groups of resolved configs, in the order of their first trials."""
    inputs = [frozenset(values_of(config)) for config in configs]
    anywhere = dict.fromkeys(frozenset().union(*inputs), "an input")
    anywhere["seed"] = "an input"
    members: dict[str, list[int]] = {}
    for number, config in enumerate(configs):
        form = dump(join(config, anywhere))
        members.setdefault(form, []).append(number)
    return [
        Group(tuple(trials), frozenset().union(*(inputs[n] for n in trials)))
        for trials in members.values()
    ]
