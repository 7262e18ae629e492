"""What every way to decode is given, and what it returns.

`T` is the room of a text in tokens, `R` counts the texts kept of a row, `P` is the
length of a prompt.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from core.registry import Range

PAD, END, START = 0, 1, 3  # tokens: after the end, the end, before the first

# `extend(token_BL, cache) -> (logit_BLV, cache)` reads one more token of each of L
# continuations of B rows.
Extend = Callable[[Array, Any], tuple[Array, Any]]


class Opening(NamedTuple):
    """Prompts that have been read but for their last token, `first_B`.

    `prompt_BP` are the tokens that count as said already, in any order; PAD counts for
    nothing, nor do START and END.
    """

    cache: Any
    first_B: Int[Array, "B"]
    prompt_BP: Int[Array, "B P"]


class Found(NamedTuple):
    """Texts and their scores; PAD stands after the end of a text."""

    token_BRT: Int[Array, "B R T"]
    score_BR: Float[Array, "B R"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How many prompts are answered at once, and the longest answer, its end included.

    A task may have a shorter limit of its own.
    """

    batch_size: int = 64
    max_tokens: int = 256


LIMITS = {"batch_size": Range("[1, inf)"), "max_tokens": Range("[1, inf)")}


@runtime_checkable
class Method(Protocol):
    """A way to decode: what a line of DECODERS builds."""

    @property
    def beams(self) -> int:
        """Continuations of a row that the cache must hold."""
        ...

    def search(
        self, extend: Extend, opening: Opening, key_B: Any, *, room: int
    ) -> tuple[Found, Any]:
        """Texts of at most `room` tokens, and the cache after them."""
        ...
