"""Jobs brought to their ends by an engine, whoever of them and of us is killed.

A job that was preempted, or whose peer died, is started again as often as it takes; one
that was killed, lost or hung, up to `attempts` times. Any other code ends it. Commands
are expected to go on from where they were: that is what makes a second start harmless.
"""

import contextlib
import pathlib
import re
import time
from collections.abc import Callable, Sequence

from cluster.engine import Engine, Job
from cluster.record import KILLED, Record
from core.exits import PREEMPTED
from core.refusal import shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def never(name: str) -> bool:
    """No job is to be stopped early."""
    return False


def dispatch(
    jobs: Sequence[Job],
    engine: Engine,
    *,
    record: str | pathlib.Path,
    attempts: int,
    every_seconds: float,
    stop: Callable[[str], bool] = never,
) -> dict[str, int]:
    """Runs all jobs and returns the code with which each ended, by name.

    `stop(name)` is asked every `every_seconds`; where it is true the job is cancelled,
    or never started, and has the code that it ended with: mostly PREEMPTED. One that
    was killed too often has 137 or another code above 128.

    With a `record` that is there already it goes on from there: what is over is not
    begun again, what still runs is waited for. So a name means the same work as long as
    its record lives. What runs and is no longer among `jobs` is cancelled, and nothing
    is started before it has ended, for it might be at the same work.

    Raises:
      ValueError: a name is odd or there twice, or the engine refuses a job.
      Stop: the disk does not take the record.
    """
    check(jobs, attempts)
    try:
        with Record(record) as held:
            rounds = _Rounds({job.name: job for job in jobs}, engine, held, attempts)
            while not rounds.over(stop):
                time.sleep(every_seconds)
            return {job.name: _code(held.of(job.name).code) for job in jobs}
    finally:
        engine.close()


def check(jobs: Sequence[Job], attempts: int) -> None:
    """Raises ValueError for what `dispatch` would refuse."""
    if attempts < 0:
        raise ValueError(f"attempts={attempts} must be 0 or more.")
    seen = set()
    for name in (job.name for job in jobs):
        if not NAME.fullmatch(name):
            raise ValueError(
                f"A job cannot have the name {shown(name)}: up to 80 letters, digits, "
                "'-' and '_', the first a letter or a digit."
            )
        if name in seen:
            raise ValueError(f"Two jobs have the name {shown(name)}.")
        seen.add(name)


class _Rounds:
    """The state of one `dispatch` beside its record."""

    def __init__(
        self, jobs: dict[str, Job], engine: Engine, record: Record, attempts: int
    ):
        self.jobs, self.engine, self.record = jobs, engine, record
        self.attempts = attempts
        # Of what was in flight when we came nobody watched the end.
        self.adopted = set(self._in_flight())
        self.cancelled = set()

    def over(self, stop: Callable[[str], bool]) -> bool:
        """One round: what has ended, what is to be stopped, what can be started."""
        for name in self._in_flight():
            if self.record.of(name).handle is None:
                self._settle(name)
        self._take_ends()
        for name in [*self.jobs, *self._strangers()]:
            if not self.record.of(name).over(self.attempts):
                self._stop(name, stop)
        if not self._strangers():
            self._start()
        return not self._in_flight() and not self._waiting()

    def _in_flight(self) -> list[str]:
        return [name for name, job in self.record.jobs.items() if job.in_flight]

    def _strangers(self) -> list[str]:
        return [name for name in self._in_flight() if name not in self.jobs]

    def _waiting(self) -> list[str]:
        known = {name: self.record.of(name) for name in self.jobs}
        return [
            name
            for name, job in known.items()
            if not job.in_flight and not job.over(self.attempts)
        ]

    def _settle(self, name: str) -> None:
        """Finds out whether a submission was taken, and makes it if not."""
        try:
            handle = self.engine.find(self.record.name(name))
        except ConnectionError:
            return
        if handle is not None:
            self.record.write(name, "submitted", handle)
        elif name not in self.jobs or self.record.of(name).stopped:
            self.record.write(name, "ended", None)
        else:
            self._submit(name)

    def _submit(self, name: str) -> None:
        job = self.jobs[name]._replace(name=self.record.name(name))
        try:
            handle = self.engine.submit(job)
        except ConnectionError:
            return  # the next round finds out
        self.record.write(name, "submitted", handle)

    def _take_ends(self) -> None:
        handles = {
            job.handle: name
            for name, job in self.record.jobs.items()
            if job.in_flight and job.handle is not None
        }
        for handle, status in self.engine.poll(tuple(handles)).items():
            name = handles[handle]
            if status.state == "ended":
                self.record.write(name, "ended", status.code)
            elif status.state == "lost":
                unseen = name in self.adopted
                self.record.write(name, "ended", None if unseen else KILLED)
            if status.state in ("ended", "lost"):
                self.adopted.discard(name)

    def _stop(self, name: str, stop: Callable[[str], bool]) -> None:
        job, stranger = self.record.of(name), name not in self.jobs
        if not stranger and not job.stopped and stop(name):
            self.record.write(name, "stopped")
        ends = stranger or job.stopped
        if ends and job.handle is not None and job.handle not in self.cancelled:
            with contextlib.suppress(ConnectionError):
                self.engine.cancel(job.handle)
                self.cancelled.add(job.handle)

    def _start(self) -> None:
        free = self.engine.capacity - len(self._in_flight())
        for name in self._waiting()[: max(free, 0)]:
            self.record.write(name, "submitting")
            self._submit(name)


def _code(code: int | None) -> int:
    """Of a job that is over; one that was stopped before it ran was not done."""
    return PREEMPTED if code is None else code
