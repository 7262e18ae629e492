"""Plain text of the user's own, for language models: whole files or their lines."""

import contextlib
import functools
import glob
import gzip
import hashlib
import io
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from core.registry import Entry, Range
from data.files import SPLITS, check_folder, find, lines
from data.source import Record, digest_of


class Span(NamedTuple):
    """Bytes `begin` to `end` of a file, as it is without compression."""

    path: pathlib.Path
    begin: int
    end: int


class Text:
    """A folder with text, whose last parts are held out where no file is named.

    `names` has a file, or a pattern of files, for each split that has its own;
    `shares` the parts of the training files' bytes that make the others. They are cut
    from the end, the test split last, between two characters or, if `document` is a
    line, two lines.
    """

    def __init__(
        self,
        folder: str,
        names: dict[str, str],
        shares: dict[str, float],
        document: Literal["file", "line"],
    ):
        self.folder = pathlib.Path(folder)
        self.names, self.shares, self.document = names, shares, document
        self.splits = tuple(name for name in SPLITS if name in names | shares)

    def records(self, split: str) -> Iterator[Record]:
        """The documents of a split, in the order of its files' names.

        A line without text is none. Of a file, all is text but a byte order mark.
        """
        for span in self._spans[split]:
            if self.document == "file":
                yield {"text": _text(span)}
            else:
                for line in io.StringIO(_text(span), newline="\n"):
                    if line.strip():
                        yield {"text": line.removesuffix("\n").removesuffix("\r")}

    def digest(self) -> str:
        """Of the files' bytes, their order, and how they are cut."""
        sums = []
        for split, paths in self._paths.items():
            for path in paths:
                with open(path, "rb") as file:
                    sums.append(
                        (split, hashlib.file_digest(file, "sha256").hexdigest())
                    )
        return digest_of("text", self.document, sorted(self.shares.items()), sums)

    @functools.cached_property
    def _paths(self) -> dict[str, list[pathlib.Path]]:
        """The files of each split that has its own."""
        found = {
            split: _matching(self.folder, name, f"data.{split}")
            for split, name in self.names.items()
        }
        for (one, paths), (other, others) in itertools.combinations(found.items(), 2):
            if shared := sorted(set(paths) & set(others)):
                raise ValueError(
                    f"data.{one}={self.names[one]!r} and "
                    f"data.{other}={self.names[other]!r} both read {shared[0]}."
                )
        return found

    @functools.cached_property
    def _spans(self) -> dict[str, list[Span]]:
        """What each split reads."""
        whole = {
            split: [Span(path, 0, _size(path)) for path in paths]
            for split, paths in self._paths.items()
        }
        train = whole["train"]
        end = total = sum(span.end for span in train)
        for split in reversed(SPLITS):
            if split in self.shares:
                begin = self._cut(train, end - round(self.shares[split] * total))
                whole[split], end = _between(train, begin, end), begin
        whole["train"] = _between(train, 0, end)
        return whole

    def _cut(self, spans: list[Span], place: int) -> int:
        """The first place from `place` on where a character, or a line, begins."""
        before = 0
        for path, _, size in spans:
            if before <= place < before + size:
                return before + self._cut_file(path, place - before)
            before += size
        return place

    def _cut_file(self, path: pathlib.Path, place: int) -> int:
        """`_cut` within one file."""
        if place == 0:
            return 0
        with _opened(path) as file:
            if self.document == "line":
                file.seek(place - 1)
                return place - 1 + len(file.readline())
            file.seek(place)
            return place + len(list(itertools.takewhile(_continues, file.read(4))))


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 is within a character."""
    return byte & 0xC0 == 0x80


def _between(spans: list[Span], begin: int, end: int) -> list[Span]:
    """The places `begin` to `end` of the whole files, end to end."""
    found, before = [], 0
    for path, _, size in spans:
        first, last = max(begin - before, 0), min(end - before, size)
        if first < last:
            found.append(Span(path, first, last))
        before += size
    return found


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """A file's bytes.

    Raises:
      ValueError: they cannot be read; a broken `.gz`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def _size(path: pathlib.Path) -> int:
    """Bytes, without compression; a `.gz` is read to its end for that.

    Raises:
      ValueError: there are none.
    """
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END) if path.suffix != ".gz" else 0
        while part := file.read(1 << 20):
            size += len(part)
    if size == 0:
        raise ValueError(f"{path} is empty.")
    return size


def _text(span: Span) -> str:
    """The text of a span.

    Raises:
      ValueError: it is no UTF-8; says at which line of the file.
    """
    with _opened(span.path) as file:
        file.seek(span.begin)
        raw = file.read(span.end - span.begin)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        for _ in lines(span.path):
            pass  # until the line that it is, which says so
        raise
    return text.removeprefix("\ufeff") if span.begin == 0 else text


def _matching(folder: pathlib.Path, name: str, key: str) -> list[pathlib.Path]:
    """The file of that name or, of a pattern, all that match, plain or as `.gz`.

    Raises:
      FileNotFoundError: there is none.
    """
    if glob.escape(name) == name:
        return [find(folder, name, key)]
    check_folder(folder)
    found: dict[str, pathlib.Path] = {}
    for pattern in (name, f"{name}.gz"):
        for match in glob.iglob(pattern, root_dir=folder, recursive=True):
            if (folder / match).is_file():
                found.setdefault(match.removesuffix(".gz"), folder / match)
    if not found:
        raise FileNotFoundError(f"{key}={name!r} matches no file in {folder}.")
    return [path for _, path in sorted(found.items())]


def text(
    *,
    folder: str,
    train: str = "train.txt",
    validation: str = "",
    test: str = "",
    validation_share: float = 0.05,
    test_share: float = 0.05,
    document: Literal["file", "line"] = "file",
) -> Text:
    """Plain text: a file a split, or a pattern such as `train/*.txt`.

    A split named "" is the last share of the training files' bytes; a share of 0.0
    makes none.
    """
    named = {"train": train, "validation": validation, "test": test}
    names = {split: name for split, name in named.items() if name}
    shares = {"validation": validation_share, "test": test_share}
    shares = {split: x for split, x in shares.items() if x and split not in names}
    return Text(folder, names, shares, document)


def check(
    *,
    train: str = "train.txt",
    validation: str = "",
    test: str = "",
    validation_share: float = 0.05,
    test_share: float = 0.05,
    **_,
) -> None:
    """Raises ValueError where nothing is named or left to train on."""
    if not train:
        raise ValueError("data.train='' names no file to train on.")
    held_out = validation_share * (not validation) + test_share * (not test)
    if held_out >= 1:
        raise ValueError(
            f"data.validation_share={validation_share} and "
            f"data.test_share={test_share} must leave text to train on: "
            "less than 1.0 together."
        )


SHARE = Range("[0, 1)")
ENTRY = Entry(
    text,
    "plain text",
    {"validation_share": SHARE, "test_share": SHARE},
    check,
)
