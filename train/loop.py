"""The training loop: steps and hooks, nothing else."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from train.step import Scores, TrainState

Item = TypeVar("Item")

# How many programs the host is ahead of the devices, which so never wait for it. Each
# more would keep a batch in their memory, and XLA's client for CPUs deadlocks where it
# has over 32 large programs of several devices (LOG.md).
IN_FLIGHT = 8


class Pace:
    """Waits, at each result it is given, for the one `IN_FLIGHT` before."""

    def __init__(self):
        self._begun = collections.deque()

    def __call__(self, result: PyTree) -> None:
        self._begun.append(result)
        if len(self._begun) > IN_FLIGHT:
            jax.block_until_ready(self._begun.popleft())


class Hook(NamedTuple):
    """Called after the steps of which `due(number)` is true; scores are on device."""

    due: Callable[[int], bool]
    call: Callable[[int, TrainState, Scores], None]


def always(step: int) -> bool:
    """After every step."""
    del step
    return True


def fit(
    state: TrainState,
    step: Callable[[TrainState, PyTree], tuple[TrainState, Scores]],
    batches: Iterator[PyTree],
    *,
    numbers: Iterable[int],
    hooks: Sequence[Hook] = (),
) -> TrainState:
    """Calls `step` on each batch, and after it the hooks, which are told its number.

    `numbers` are those of a run's steps from the next on; of a program of several steps
    a call, those of the last ones.

    Implicit transfers are errors here: a metric printed by accident would stall every
    step. Hooks that fetch say so, with `jax.device_get`.
    """
    pace = Pace()
    with jax.transfer_guard("disallow"):
        for number in numbers:
            state, scores = step(state, next(batches))
            pace(scores)
            for hook in hooks:
                if hook.due(number):
                    hook.call(number, state, scores)
    return state


def total(scores: Iterable[Scores]) -> Scores:
    """The sums of the scores of all batches, on the devices."""
    sums: Scores = {}
    pace = Pace()
    for found in scores:
        sums = _add(sums, found) if sums else found
        pace(sums)
    return sums


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


@jax.jit
def _add(one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, one, other)
