"""What a run writes about itself, so that a crash at any moment leaves it readable.

JSON has no NaN and no infinity: here they are the texts "nan", "inf" and "-inf", and
`read_json` and `read_metrics` turn them back.
"""

import contextlib
import errno
import io
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

from core.exits import STORAGE, Stop
from train.events import Events

NOT_FINITE = ("nan", "inf", "-inf")


class Metrics:
    """`metrics.jsonl` and the TensorBoard events of one run folder.

    One line a log step, in the file before the next step starts; a line that a crash
    tore is dropped when the folder is opened again. One process of a run writes.

    Raises:
      ValueError: a line other than the last is damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        self.path = pathlib.Path(folder) / "metrics.jsonl"
        self.last_step = -1
        self._events: Events | None = None
        if self.path.exists():
            self._keep(_whole_lines(self.path))
        self._file = self._open()

    def cut(self, step: int) -> None:
        """Forgets what was logged after `step`, which the run goes on from.

        To be called before the first `write`: it also tells TensorBoard where this
        part of the run starts.
        """
        assert self._events is None, "cut comes before the first write"
        self._file.close()
        self._keep([x for x in _whole_lines(self.path) if _parse(x)["step"] <= step])
        self._file = self._open()
        with _or_stop(self.path.parent):
            self._events = Events(self.path.parent, purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the line of one step; each step can stand there once.

        Raises:
          Stop: the disk does not take it.
        """
        assert step > self.last_step, f"step {step} after step {self.last_step}"
        line = json.dumps(plain({"step": step, **values}), allow_nan=False)
        with _or_stop(self.path):
            data = line.encode() + b"\n"
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.last_step = step
            self._events = self._events or Events(self.path.parent)
            self._events.write(step, values)

    def sync(self) -> None:
        """Returns when the lines so far would outlive a power cut.

        A checkpoint that counts earlier could leave a gap before its step.
        """
        with _or_stop(self.path):
            os.fsync(self._file.fileno())
            if self._events is not None:
                self._events.flush()

    def close(self) -> None:
        """Writes out what is pending."""
        self._file.close()
        if self._events is not None:
            with _or_stop(self.path.parent):
                self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _open(self) -> io.FileIO:
        # Unbuffered: nothing waits here that a crash or a full disk could swallow.
        return self.path.open("ab", buffering=0)

    def _keep(self, lines: list[bytes]) -> None:
        """Makes `lines` the whole file, and reads the last step off them."""
        self.last_step = _parse(lines[-1])["step"] if lines else -1
        content = b"".join(line + b"\n" for line in lines)
        if self.path.read_bytes() != content:
            write_bytes(self.path, content)


def read_metrics(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, oldest first; a torn last one is left out.

    Safe to call while the run goes on.

    Raises:
      FileNotFoundError: the run has logged nothing.
      ValueError: a line other than the last is damaged.
    """
    path = pathlib.Path(folder) / "metrics.jsonl"
    return [_revive(_parse(line)) for line in _whole_lines(path)]


def write_json(path: str | os.PathLike, tree: Any) -> None:
    """Puts `tree` into a file that holds either the old content or the new one."""
    text = json.dumps(plain(tree), allow_nan=False, indent=2, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: str | os.PathLike) -> Any:
    """What `write_json` wrote, with lists for tuples.

    Raises:
      ValueError: the file is no JSON; names it.
    """
    path = pathlib.Path(path)
    try:
        return _revive(json.loads(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Replaces a file as a whole; durable, its name too, on return.

    Raises:
      Stop: the disk does not take it; the old file is as it was.
    """
    path = pathlib.Path(path)
    draft = path.with_name(f".{path.name}.draft")
    with _or_stop(path):
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def plain(tree: Any) -> Any:
    """`tree` in what JSON can say; NumPy's scalars become Python's.

    >>> plain({"clip_norm": float("inf"), "betas": (0.9, 0.95)})
    {'clip_norm': 'inf', 'betas': [0.9, 0.95]}
    """
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if hasattr(tree, "item"):
        tree = tree.item()
    if isinstance(tree, float) and not math.isfinite(tree):
        return str(tree)
    return tree


@contextlib.contextmanager
def _or_stop(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Stop(STORAGE, f"{path}: {error.strerror}.") from error


def _revive(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _revive(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_revive(value) for value in tree]
    if isinstance(tree, str) and tree in NOT_FINITE:
        return float(tree)
    return tree


def _parse(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not (isinstance(record, dict) and isinstance(record.get("step"), int)):
        raise ValueError("no object with a step")
    return record


def _whole_lines(path: pathlib.Path) -> list[bytes]:
    """The lines of a file that is appended to, without a last one that is torn."""
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            _parse(line)
        except ValueError as error:
            raise ValueError(
                f"{path}:{number} is damaged: it is not one JSON object with a step."
            ) from error
    return lines
