"""Averages of the parameters, which are evaluated in their place.

A new one is a function in a file here and a line in AVERAGES: from a chain `tx` to one
whose state has an average too. Its updates are those of `tx`.
"""

import math
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import PyTree

from core.registry import Entry, Note, Range
from optim.average import ema, lawa, swa
from optim.outer.none import none

COUNT = Range("[1, 2147483647]")
STEP = Range("[0, 2147483647]")


@runtime_checkable
class Averaged(Protocol):
    """A part of an optimizer's state that has parameters of its own to evaluate."""

    def averaged(self, params: PyTree) -> PyTree:
        """Those that are evaluated where training is at `params`."""
        ...


def check_begins(
    *,
    start_step: int = 0,
    every_steps: int = 1,
    num_steps: int | float = math.inf,
    **_: Any,
) -> None:
    """Raises ValueError where a run ends before anything is averaged."""
    if start_step + every_steps > num_steps:
        raise ValueError(
            f"{start_step=} and {every_steps=} leave nothing to average in "
            f"num_steps={num_steps}."
        )


PROOF = Note("tests/test_averages.py")

AVERAGES = {
    "none": Entry(none, ""),
    "ema": Entry(
        ema.ema,
        "Polyak & Juditsky 1992, https://doi.org/10.1137/0330046",
        {"decay": Range("[0, 1)"), "start_step": STEP},
        check_begins,
        note=PROOF,
    ),
    "swa": Entry(
        swa.swa,
        "Izmailov et al. 2018, https://arxiv.org/abs/1803.05407",
        {"start_step": STEP, "every_steps": COUNT},
        check_begins,
        note=PROOF,
    ),
    "lawa": Entry(
        lawa.lawa,
        "Kaddour 2022, https://arxiv.org/abs/2209.14981",
        {"every_steps": COUNT, "num_snapshots": Range("[1, 1024]")},
        check_begins,
        note=PROOF,
    ),
}


def averages_in(opt_state: PyTree) -> list[Averaged]:
    """Those that an optimizer's state holds, the outermost first."""
    states = jax.tree.leaves(opt_state, is_leaf=lambda s: isinstance(s, Averaged))
    return [state for state in states if isinstance(state, Averaged)]


def eval_params(opt_state: PyTree, params: PyTree) -> PyTree:
    """What is evaluated: the outermost average, or the parameters themselves."""
    found = averages_in(opt_state)
    return found[0].averaged(params) if found else params
