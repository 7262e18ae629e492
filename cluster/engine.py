"""What starts commands on machines, and what it tells of them."""

import pathlib
from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol


class Job(NamedTuple):
    """A command to be run until it is done, and the file that takes what it prints."""

    name: str
    command: tuple[str, ...]
    log: pathlib.Path


class Status(NamedTuple):
    """What became of a command.

    `code` is of one that has ended, as a shell tells it: 128 and the signal's number
    where a signal ended it. A lost one has ended and nobody knows how.
    """

    state: Literal["waiting", "running", "ended", "lost"]
    code: int | None = None


def as_shell(code: int) -> int:
    """An exit code of Python's, where a signal's number is negative, as a shell's.

    >>> as_shell(75), as_shell(-9)
    (75, 137)
    """
    return 128 - code if code < 0 else code


class Engine(Protocol):
    """Starts commands, at most `capacity` at once, and asks after them by handle.

    A handle is a text that outlives the process which got it: an engine of that kind
    and of the same settings understands it in another process.
    """

    capacity: int

    def submit(self, job: Job) -> str:
        """Starts the job and returns its handle; no other job ever has its name.

        Raises:
          ConnectionError: nobody knows whether it was taken; `find` may tell later.
          ValueError: it is refused, and will be again.
        """
        ...

    def find(self, name: str) -> str | None:
        """The handle of the job of that name, None if none can be running.

        Raises:
          ConnectionError: this cannot be known now.
        """
        ...

    def poll(self, handles: Collection[str]) -> dict[str, Status]:
        """The status of each; one of which nothing can be known now is left out."""
        ...

    def cancel(self, handle: str) -> None:
        """Asks it to save and end, by SIGTERM, and ends it if it does not.

        Raises:
          ConnectionError: it was not reached; to be tried again.
        """
        ...

    def close(self) -> None:
        """Ends in good order what could not outlive this process."""
        ...
