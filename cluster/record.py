"""What was submitted and how it ended, line by line, so that a crash forgets nothing.

`submitting` is in the file before the engine is asked and `submitted` after it, with
the handle; between the two only the engine can tell whether the job was taken. It is
looked for there by the name of its submission, which no other submission has.
"""

import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import secrets
import time
from typing import Any, Literal, Self

from core.exits import HANG, PREEMPTED, STORAGE, Stop

PEER_DIED = 134  # JAX aborts where another process of the run is gone
KILLED = 137  # by SIGKILL, and what a command that was lost counts as
EVENTS = ("submitting", "submitted", "stopped", "ended")
Event = Literal["submitting", "submitted", "stopped", "ended"]


@dataclasses.dataclass
class Progress:
    """How far one job has come.

    `submissions` counts; `handle` is of the one in flight, None while it is not known.
    `failures` are the submissions that were killed, hung, or were lost under the eyes
    of a controller. `code` is how the last one ended.
    """

    submissions: int = 0
    in_flight: bool = False
    handle: str | None = None
    failures: int = 0
    stopped: bool = False
    code: int | None = None

    def over(self, attempts: int) -> bool:
        """Whether the job is not to be started again."""
        if self.in_flight:
            return False
        if self.stopped:
            return True
        if self.code is None or self.code in (PREEMPTED, PEER_DIED):
            return False
        return not failed(self.code) or self.failures > attempts


def failed(code: int) -> bool:
    """Whether the code says that something else than the command ended it."""
    return code == HANG or (code > 128 and code != PEER_DIED)


class Record:
    """The file of one `dispatch`, held while open: it has one controller at a time.

    `key` tells its submissions from those of all other records.

    Raises:
      ValueError: another controller holds it, or a line other than the last is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ValueError(f"{self.path} is held by another controller.") from None
        try:
            self.key, self.jobs = read(self.path)
        except ValueError:
            self._file.close()
            raise
        lines, end, _ = self.path.read_bytes().rpartition(b"\n")
        self._file.truncate(len(lines + end))
        if not self.key:
            self.key = secrets.token_hex(4)
            self._append({"key": self.key})

    def of(self, job: str) -> Progress:
        """How far the job of that name has come."""
        return self.jobs.setdefault(job, Progress())

    def name(self, job: str) -> str:
        """The name of the job's last submission, for the engine."""
        return f"{job}.{self.key}.{self.of(job).submissions}"

    def write(self, job: str, event: Event, value: str | int | None = None) -> None:
        """Appends what happened: durable on return, and seen in `of`.

        `value` is the handle, or the exit code; None for one that was lost while no
        controller watched, which is held against nobody.

        Raises:
          Stop: the disk does not take it.
        """
        line = {"job": job, "event": event, "value": value}
        self._append(line | {"time": round(time.time(), 3)})
        _apply(self.jobs, line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Stop(STORAGE, f"{self.path}: {error.strerror}.") from error


def read(path: str | os.PathLike) -> tuple[str, dict[str, Progress]]:
    """The key of a record, "" before it has one, and its jobs by name.

    A torn last line is left out, so this is safe while a controller writes.

    Raises:
      ValueError: a line other than that is damaged.
    """
    key, jobs = "", {}
    *lines, _ = pathlib.Path(path).read_bytes().split(b"\n")
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if number == 1:
                key = line["key"]
            else:
                _apply(jobs, line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}:{number} is damaged: it is not one line of a record."
            ) from error
    return key, jobs


def _apply(jobs: dict[str, Progress], line: dict[str, Any]) -> None:
    """Takes one line into what is known of its job."""
    event, value = line["event"], line["value"]
    if event not in EVENTS:
        raise ValueError(f"event={event!r}")
    job = jobs.setdefault(line["job"], Progress())
    if event == "submitting":
        job.submissions += 1
        job.in_flight, job.handle = True, None
    elif event == "submitted":
        job.handle = value
    elif event == "stopped":
        job.stopped = True
    else:
        job.in_flight, job.handle = False, None
        job.code = value
        job.failures += value is not None and failed(value)
