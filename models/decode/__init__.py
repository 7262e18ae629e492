"""From a model that continues a text to whole texts: greedy or by beam search.

`extend(token_BL, cache) -> (logit_BLV, cache)` reads one token of each of L
continuations of B sources. All here is model-agnostic, batched, and jitted by the
caller. Letters beyond STYLE.md's: `T` places of an output, `R` results kept of a row.
"""

from typing import Any

from core.types import Number
from models.decode import beam as beam_search
from models.decode import greedy
from models.decode.score import Extend, Found


def generate(
    extend: Extend,
    cache: Any,
    *,
    batch_size: int,
    max_length: int,
    beam: int,
    length_penalty: Number,
    num_best: int = 1,
    start: int = 3,
    end: int = 1,
) -> Found:
    """The `num_best` best texts of each row, best first; 0 after the end.

    `cache` has room for `max_length` tokens of `beam` continuations, and for more than
    one a method `reorder(index_BL)`. One beam is greedy search.

    Raises:
      ValueError: `num_best` is larger than `beam`.
    """
    if not 1 <= num_best <= beam:
        raise ValueError(f"num_best={num_best} must lie in [1, beam], and beam={beam}.")
    if beam == 1:
        return greedy.search(
            extend,
            cache,
            batch_size=batch_size,
            max_length=max_length,
            length_penalty=length_penalty,
            start=start,
            end=end,
        )
    return beam_search.search(
        extend,
        cache,
        batch_size=batch_size,
        max_length=max_length,
        beam=beam,
        num_best=num_best,
        length_penalty=length_penalty,
        start=start,
        end=end,
    )
