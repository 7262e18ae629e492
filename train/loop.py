"""The training loop: steps and hooks, nothing else."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
from jaxtyping import PyTree

from core.mean import Mean
from train.step import TrainState

Item = TypeVar("Item")


class Hook(NamedTuple):
    """Called after the steps of which `due(number)` is true; scores are on device."""

    due: Callable[[int], bool]
    call: Callable[[int, TrainState, dict[str, Mean]], None]


def always(step: int) -> bool:
    """After every step."""
    del step
    return True


def fit(
    state: TrainState,
    step: Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]],
    batches: Iterator[PyTree],
    *,
    num_steps: int,
    hooks: Sequence[Hook] = (),
) -> TrainState:
    """Steps until `state.step == num_steps`; a restored state goes on where it was.

    Implicit transfers are errors here: a metric printed by accident would stall every
    step. Hooks that fetch say so, with `jax.device_get`.
    """
    first = int(state.step)
    with jax.transfer_guard("disallow"):
        for number in range(first + 1, num_steps + 1):
            state, scores = step(state, next(batches))
            for hook in hooks:
                if hook.due(number):
                    hook.call(number, state, scores)
    return state


def ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """`items`, made `depth` early: the host prepares and sends while the device works.

    >>> list(ahead(iter("abc"), 2))
    ['a', 'b', 'c']
    """
    waiting = collections.deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting
