"""What a source of records is."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

# Named columns of text: `source` and `target` of pairs, `text` of documents.
Record = dict[str, str]


@runtime_checkable
class Source(Protocol):
    """Where records come from: splits by name, `train` among them."""

    splits: tuple[str, ...]

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split, in an order that never changes.

        Raises:
          ValueError, FileNotFoundError: bad data, in one line that says where.
        """
        ...

    def digest(self) -> str:
        """A hash of all that decides the records, cheaper than reading them."""
        ...


def pairs(source: Iterable[str], target: Iterable[str]) -> Iterator[Record]:
    """Two aligned columns as records.

    >>> list(pairs(["one"], ["eins"]))
    [{'source': 'one', 'target': 'eins'}]
    """
    for one, other in zip(source, target, strict=True):
        yield {"source": one, "target": other}


def digest_of(*parts: object) -> str:
    """A short hash of the parts' `repr`, the same in every process.

    >>> digest_of("a", 1) == digest_of("a", 1) != digest_of("a1")
    True
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
