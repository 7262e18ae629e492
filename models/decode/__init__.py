"""From a model that continues a text to whole texts: greedy or by beam search.

`extend(token_BL, cache) -> (logit_BLV, cache)` reads one token of each of L
continuations of B sources. All here is model-agnostic, batched, and jitted by the
caller. Letters beyond STYLE.md's: `T` places of an output, `R` results kept of a row.
"""

from models.decode import beam as beam_search
from models.decode import greedy
from models.decode.score import Extend, Found
from core.types import Number


def generate(
    extend: Extend,
    cache,
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

    `cache` has room for `max_length` tokens of `beam` continuations. One beam is greedy
    search.

    Raises:
      ValueError: `num_best` is larger than `beam`.
    """
    if not 1 <= num_best <= beam:
        raise ValueError(f"num_best={num_best} must lie in [1, beam], and beam={beam}.")
    options = dict(
        batch_size=batch_size,
        max_length=max_length,
        length_penalty=length_penalty,
        start=start,
        end=end,
    )
    if beam == 1:
        return greedy.search(extend, cache, **options)
    return beam_search.search(
        extend, cache, beam=beam, num_best=num_best, **options
    )
