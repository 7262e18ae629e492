"""Local processes, one a device: a GPU each, or an equal share of the CPU's cores."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from typing import Literal

from cluster.engine import Job, Status, as_shell

LEASH = pathlib.Path(__file__).with_name("leash.py")
MARK = "STEEPEST_JOB"  # in the environment of a process: the name of its job
GRACE_SECONDS = 60.0  # between SIGTERM and SIGKILL: a checkpoint has to fit
PROC = pathlib.Path("/proc")


class Processes:
    """`workers` processes at once on this machine; they die with the one that asks.

    On `device="gpu"` worker i sees one GPU, the i-th of CUDA_VISIBLE_DEVICES if that is
    set; on "cpu" the cores that this process may use are split evenly. Each is the
    leader of a session of its own, so that Ctrl-C reaches it as one SIGTERM and not as
    two signals, of which the second would end it before it has saved.

    A handle is a process id and when that process began: an id alone is used again.
    """

    def __init__(self, *, workers: int, device: Literal["cpu", "gpu"] = "cpu"):
        if sys.platform != "linux":
            raise ValueError(
                f"engine.name='processes' needs Linux; this is {sys.platform}."
            )
        self.capacity = workers
        self._places = _gpus(workers) if device == "gpu" else _shares(workers)
        self._running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._kill_at: dict[str, float] = {}

    def submit(self, job: Job) -> str:
        taken = {place for _, place in self._running.values()}
        place = next(i for i in range(self.capacity) if i not in taken)
        cores, extra = self._places[place]
        words = [str(LEASH), str(os.getpid()), cores, *job.command]
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                # Neither the user's site nor the working folder is imported from.
                [sys.executable, "-I", "-S", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | extra | {MARK: job.name},
                start_new_session=True,
            )
        # It is in /proc until its code is asked for, even if it has ended.
        _, born = _stat(process.pid)
        handle = f"{process.pid}.{born}"
        self._running[handle] = (process, place)
        return handle

    def find(self, name: str) -> str | None:
        mark = f"{MARK}={name}".encode()
        for entry in PROC.iterdir():
            if entry.name.isdigit() and mark in _environment(entry):
                handle = f"{entry.name}.{_stat(int(entry.name))[1]}"
                if _alive(handle):
                    return handle
        return None

    def poll(self, handles: Collection[str]) -> dict[str, Status]:
        for handle, at in self._kill_at.items():
            if time.monotonic() >= at:
                self._signal(handle, signal.SIGKILL)
        return {handle: self._status(handle) for handle in handles}

    def cancel(self, handle: str) -> None:
        self._signal(handle, signal.SIGTERM)
        self._kill_at[handle] = time.monotonic() + GRACE_SECONDS

    def close(self) -> None:
        for handle in self._running:
            self.cancel(handle)
        for handle, (process, _) in self._running.items():
            try:
                process.wait(max(self._kill_at[handle] - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                self._signal(handle, signal.SIGKILL)
                process.wait()
        self._running, self._kill_at = {}, {}

    def _status(self, handle: str) -> Status:
        if handle not in self._running:
            # Started by another process, so its exit code is not for us.
            return Status("running" if _alive(handle) else "lost")
        process, _ = self._running[handle]
        code = process.poll()
        if code is None:
            return Status("running")
        del self._running[handle]
        self._kill_at.pop(handle, None)
        return Status("ended", as_shell(code))

    def _signal(self, handle: str, number: int) -> None:
        """To the whole session, so to what a worker itself has started as well."""
        if _alive(handle):
            os.killpg(int(handle.partition(".")[0]), number)


def _alive(handle: str) -> bool:
    pid, _, born = handle.partition(".")
    state, began = _stat(int(pid))
    return began == int(born) and state not in "ZX"


def _stat(pid: int) -> tuple[str, int]:
    """The state of a process and when it began, in ticks since boot."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return "X", 0  # it has ended, and was asked for its code
    # The name of the program, in brackets, may hold anything.
    state, *fields = text.rpartition(")")[2].split()
    return state, int(fields[18])


def _environment(entry: pathlib.Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []  # ended, or of another user


def _gpus(workers: int) -> list[tuple[str, dict[str, str]]]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(i) for i in range(workers)]
    if workers > len(names):
        raise ValueError(
            f"workers={workers} must be at most {len(names)}, the number of GPUs in "
            f"CUDA_VISIBLE_DEVICES={given}."
        )
    return [("-", {"CUDA_VISIBLE_DEVICES": name}) for name in names[:workers]]


def _shares(workers: int) -> list[tuple[str, dict[str, str]]]:
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        raise ValueError(
            f"workers={workers} must be at most {len(cores)}, the number of cores."
        )
    ends = [len(cores) * i // workers for i in range(workers + 1)]
    shares = [cores[ends[i] : ends[i + 1]] for i in range(workers)]
    # On a machine that has a GPU as well, JAX would take that.
    return [(",".join(map(str, share)), {"JAX_PLATFORMS": "cpu"}) for share in shares]
