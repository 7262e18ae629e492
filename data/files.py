"""A user's own files: two plain texts, TSV, JSONL. `.gz` of each is read as well.

Lines end at a line feed and nowhere else, so that both sides of a parallel text agree.
"""

import abc
import gzip
import hashlib
import json
import pathlib
import zlib
from collections.abc import Iterator

from data.source import Record, digest_of, pairs

SPLITS = ("train", "validation", "test")


class Files(abc.ABC):
    """A folder with some files a split; a subclass says which and how they are read."""

    def __init__(self, folder: str, names: dict[str, str], columns: dict[str, str]):
        self.folder = pathlib.Path(folder)
        self.names = {split: name for split, name in names.items() if name}
        self.columns = columns
        self.splits = tuple(self.names)

    def paths(self, split: str) -> list[pathlib.Path]:
        """The files of a split."""
        return [find(self.folder, self.names[split], f"data.{split}")]

    @abc.abstractmethod
    def records(self, split: str) -> Iterator[Record]:
        """The records of a split."""

    def digest(self) -> str:
        """Of the files' bytes, the columns and the way they are read."""
        sums = []
        for split in self.splits:
            for path in self.paths(split):
                with open(path, "rb") as file:
                    sums.append(
                        (split, hashlib.file_digest(file, "sha256").hexdigest())
                    )
        return digest_of(type(self).__name__, sorted(self.columns.items()), sums)


def check_folder(folder: pathlib.Path) -> None:
    """Raises FileNotFoundError unless it is one."""
    if not folder.is_dir():
        raise FileNotFoundError(f"data.folder={str(folder)!r} is not a folder.")


def find(folder: pathlib.Path, name: str, key: str) -> pathlib.Path:
    """The file of that name, or its `.gz`.

    Raises:
      FileNotFoundError: neither is there.
    """
    check_folder(folder)
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{key}: there is no {folder / name} and no {name}.gz.")


def lines(path: pathlib.Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends and without a byte order mark.

    Raises:
      ValueError: bytes that are not UTF-8, with file and line; a broken `.gz`.
    """
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            for number, raw in enumerate(file, 1):
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{path} line {number} is not UTF-8 "
                        f"(byte {error.start + 1}: {raw[error.start]:#04x})."
                    ) from error
                line = line.removesuffix("\n").removesuffix("\r")
                yield line.removeprefix("\ufeff") if number == 1 else line
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} cannot be read: {error}.") from error


class Parallel(Files):
    """Two files a split, line by line: `train.en` and `train.de`."""

    def paths(self, split: str) -> list[pathlib.Path]:
        """The files of a split, source first."""
        name = self.names[split]
        return [
            find(self.folder, f"{name}.{self.columns[side]}", f"data.{split}")
            for side in ("source", "target")
        ]

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split; both files are counted first."""
        one, other = self.paths(split)
        counts = [sum(1 for _ in lines(path)) for path in (one, other)]
        if counts[0] != counts[1]:
            raise ValueError(
                f"{one} has {counts[0]} lines and {other} has {counts[1]}: "
                "parallel texts have equally many."
            )
        return pairs(lines(one), lines(other))


class Tsv(Files):
    """A file a split, its first line naming the columns, cells between tabs."""

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split."""
        (path,) = self.paths(split)
        rows = lines(path)
        header = next(rows, "").split("\t")
        place = {}
        for side, column in self.columns.items():
            if column not in header:
                raise ValueError(missing(path, f"data.{side}", column, header))
            place[side] = header.index(column)
        for number, line in enumerate(rows, 2):
            cells = line.split("\t")
            if len(cells) != len(header):
                raise ValueError(
                    f"{path} line {number} has {len(cells)} cells, "
                    f"its header {len(header)}."
                )
            yield {side: cells[index] for side, index in place.items()}


class Jsonl(Files):
    """A file a split, a JSON object a line; `a.b` names the key b inside a."""

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split."""
        (path,) = self.paths(split)
        for number, line in enumerate(lines(path), 1):
            where = f"{path} line {number}"
            if not line.strip():
                continue  # as a file often ends
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} is not JSON: {error}.") from error
            yield {
                side: text_at(value, column, where, f"data.{side}")
                for side, column in self.columns.items()
            }


def missing(where: object, key: str, column: str, known: list[str]) -> str:
    """The sentence about a column that is not there."""
    return f"{where} has no column {column!r} ({key}). It has {sorted(known)}."


def text_at(value: object, column: str, where: str, key: str) -> str:
    """The text in a (nested) column of a decoded row.

    Raises:
      ValueError: it is not there, no text, or no Unicode.
    """
    for name in (
        [column] if isinstance(value, dict) and column in value else column.split(".")
    ):
        if not isinstance(value, dict) or name not in value:
            known = list(value) if isinstance(value, dict) else []
            raise ValueError(missing(where, key, column, known))
        value = value[name]
    if not isinstance(value, str):
        raise ValueError(f"{where}: column {column!r} holds {value!r}, not text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: column {column!r} holds half a surrogate."
        ) from error
    return value


def _names(train: str, validation: str, test: str) -> dict[str, str]:
    return dict(zip(SPLITS, (train, validation, test), strict=True))


def parallel(
    *,
    folder: str,
    source: str = "source",
    target: str = "target",
    train: str = "train",
    validation: str = "validation",
    test: str = "test",
) -> Parallel:
    """Two plain files a split, `<split>.<column>`. A split named "" is not there."""
    columns = dict(source=source, target=target)
    return Parallel(folder, _names(train, validation, test), columns)


def tsv(
    *,
    folder: str,
    source: str = "source",
    target: str = "target",
    train: str = "train.tsv",
    validation: str = "validation.tsv",
    test: str = "test.tsv",
) -> Tsv:
    """One TSV a split, its header naming the columns. A split named "" is not there."""
    columns = dict(source=source, target=target)
    return Tsv(folder, _names(train, validation, test), columns)


def jsonl(
    *,
    folder: str,
    source: str = "source",
    target: str = "target",
    train: str = "train.jsonl",
    validation: str = "validation.jsonl",
    test: str = "test.jsonl",
) -> Jsonl:
    """One JSONL a split. A split named "" is not there."""
    columns = dict(source=source, target=target)
    return Jsonl(folder, _names(train, validation, test), columns)
