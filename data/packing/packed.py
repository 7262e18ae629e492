"""What a packing is, and what it makes."""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from data.batches import Rows
from data.source import Record
from data.tokenizer import Tokenizer


class Packed(NamedTuple):
    """A split: the arrays of a batch, over all rows, with `tokens_R`; and counts.

    `tokens_R` has the tokens of each row that are no padding.
    """

    rows: dict[str, np.ndarray]
    stats: dict[str, float]


class Packing(Protocol):
    """Records to rows. `columns` are those of a record that it reads."""

    columns: ClassVar[tuple[str, ...]]

    def pack(
        self, records: Iterator[Record], tokenizer: Tokenizer, train: Rows | None
    ) -> Packed:
        """A split. `train` are the rows of the training split, or None for itself.

        Raises:
          ValueError: nothing is left to train on.
        """
        ...


def counted(rows: Rows, **stats: float) -> dict[str, float]:
    """`stats`, and `rows tokens fill_share` of the rows."""
    tokens = int(rows["tokens_R"].sum())
    places = sum(x.size for name, x in rows.items() if "segment" in name)
    shared = {"rows": len(rows["tokens_R"]), "tokens": tokens}
    return stats | shared | {"fill_share": tokens / places}


def smallest(top: int) -> type[np.integer]:
    """The smallest type that we keep tokens in, of those that hold 0 to `top`."""
    return np.uint8 if top < 1 << 8 else np.uint16 if top < 1 << 16 else np.int32
