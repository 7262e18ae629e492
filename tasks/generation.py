"""What tasks that produce text share: prompts into arrays, and the search itself.

`P` is the length of a prompt.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Int, PyTree

from core.axes import axes_of
from models.decode.terms import END, PAD, START, Found, Method, Opening

LEAST = 16  # the shortest row of prompts
SLACK = 16  # tokens that an answer may have beyond twice its source


def bucket(length: int) -> int:
    """The row for a text of so many tokens and its end: few, so few programs compile.

    16, 24, 32, 48, 64, ...: a third of a row at most is padding.

    >>> [bucket(length) for length in (0, 15, 16, 24, 32, 1000)]
    [16, 16, 24, 32, 48, 1024]
    """
    size = LEAST
    while size <= length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def sources(
    model: nn.Module, texts: Sequence[Sequence[int]], *, max_tokens: int
) -> tuple[dict[str, np.ndarray], int]:
    """A batch of sources, one a row from its left end, and the room of an answer.

    An answer may be twice as long as the row, and a bit.

    Raises:
      ValueError: a source is longer than the model's positions.
    """
    ended = [[*text, END] for text in texts]
    M = bucket(max(map(len, texts)))
    room = min(max_tokens, 2 * M + SLACK)
    max_length = _max_length(model)
    if max_length:
        _check_held(max(map(len, ended)), 0, max_length)
        M, room = min(M, max_length), min(room, max_length)
    source_BM = np.full((len(ended), M), PAD, np.int32)
    for row_M, tokens in zip(source_BM, ended, strict=True):
        row_M[: len(tokens)] = tokens
    segment_BM = (source_BM != PAD).astype(np.int32)
    return {"source_BM": source_BM, "source_segment_BM": segment_BM}, room


def prompts(
    model: nn.Module, texts: Sequence[Sequence[int]], *, max_tokens: int, prefix: bool
) -> tuple[dict[str, np.ndarray], int]:
    """A batch of prompts, one a row at its right end, and the room of what follows.

    A prompt is START and the text, or with `prefix` the text, its end, and START; the
    last of these tokens is `first_B`.

    Raises:
      ValueError: a prompt and `max_tokens` more exceed the model's positions.
    """
    whole = [[*text, END, START] if prefix else [START, *text] for text in texts]
    P = bucket(max(map(len, texts)))
    max_length = _max_length(model)
    if max_length:
        _check_held(max(map(len, whole)) - 1, max_tokens, max_length)
        P = min(P, max_length - max_tokens)
    token_BP = np.full((len(whole), P), PAD, np.int32)
    segment_BP = np.zeros_like(token_BP)
    for row_P, held_P, tokens in zip(token_BP, segment_BP, whole, strict=True):
        begin = P - len(tokens) + 1
        row_P[begin:], held_P[begin:] = tokens[:-1], 1
    first_B = np.array([tokens[-1] for tokens in whole], np.int32)
    batch = {"prompt_BP": token_BP, "prompt_segment_BP": segment_BP, "first_B": first_B}
    return batch, max_tokens


def _max_length(model: nn.Module) -> int:
    """The number of positions that a model has learned; 0 where it knows any."""
    learned = getattr(model, "position", "") == "learned"
    return getattr(model, "max_length", 0) if learned else 0


def _check_held(longest: int, max_tokens: int, max_length: int) -> None:
    """Raises ValueError where the model's positions end before the request does."""
    if longest + max_tokens > max_length:
        more = f" and decode.max_tokens={max_tokens} more" if max_tokens else ""
        raise ValueError(
            f"A text of {longest} tokens{more} is longer than the model holds: "
            f"model.max_length={max_length}."
        )


def start(
    model: nn.Module,
    params: PyTree,
    token_BP: Int[Array, "B P"],
    segment_BP: Int[Array, "B P"],
    *,
    beams: int,
    room: int,
) -> Any:
    """The model's cache after these tokens."""
    return model.apply(
        {"params": params}, token_BP, segment_BP, beams=beams, room=room, method="start"
    )


def search(
    model: nn.Module,
    params: PyTree,
    opening: Opening,
    key_B: Any,
    method: Method,
    *,
    room: int,
) -> tuple[Found, Any]:
    """The texts that the method finds, and the cache after them."""
    apart = _apart(params)

    def extend(token_BL, cache):
        whole = _together(apart)
        return model.apply({"params": whole}, token_BL, cache, method="extend")

    return method.search(extend, opening, key_B, room=room)


def _apart(params: PyTree) -> PyTree:
    """Each leaf of a stack as a tuple of its layers.

    Cut inside the loop over tokens, a layer's weights would be copied for every token.
    """
    return jax.tree.map(
        lambda leaf, axes: tuple(leaf) if axes.startswith("N") else leaf,
        params,
        axes_of(params),
    )


def _together(apart: PyTree) -> PyTree:
    """The stacks again; a compiler sees through it and reads a layer where it is."""
    return jax.tree.map(
        lambda leaf: jnp.stack(leaf) if isinstance(leaf, tuple) else leaf,
        apart,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
