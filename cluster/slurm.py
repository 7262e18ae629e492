"""Jobs of Slurm, by its own commands: sbatch, squeue, sacct and scancel.

Not through submitit, for what that submits is a Python function in a pickle, which the
job executes; we run nothing from data. A batch script of ours holds one command, and
leaves its exit code in a file beside itself, for Slurm forgets a job minutes after its
end (MinJobAge), and many clusters keep no accounts that sacct could read.

Slurm starts no job again by itself: the dispatcher does, and it alone counts. Where a
time limit, preemption or scancel ends a job, Slurm sends SIGTERM to the command, which
saves and ends with 75, and KillWait seconds later SIGKILL.
"""

import os
import pathlib
import shlex
import subprocess
from collections.abc import Collection
from typing import NamedTuple

from cluster.engine import Job, Status, as_shell
from core.refusal import listed, one_line, shown

TIMEOUT_SECONDS = 60.0  # of a command that asks Slurm; it tries for 10 s by itself

# What is ours to say to sbatch. `singleton`, under a name that only one submission has,
# holds back a second copy of a submission that nobody knew had been taken.
OURS = ("--job-name", "--output", "--error", "--open-mode", "--dependency")
OURS += ("--array", "--wrap", "--requeue", "--no-requeue", "--parsable", "--wait")

WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
RUNNING |= {"RESIZING", "REQUEUE_FED", "RESV_DEL_HOLD"}
# In these the machine has ended the job, and the code tells nothing of the command.
BROKEN = {"BOOT_FAIL", "NODE_FAIL", "REVOKED"}

SCRIPT = """\
#!/bin/bash
# SIGTERM is for the command, which gets it from Slurm as we do. We stay for its code.
trap : TERM
{command}
code=$?
echo "$code" > {draft} && mv {draft} {code}
exit "$code"
"""


class _Line(NamedTuple):
    """What Slurm tells of one job; `code` is 0 before it has ended."""

    state: str
    name: str
    script: str
    code: int


class Slurm:
    """`workers` jobs at once, waiting ones among them, each of one node.

    `options` go to sbatch as they are: `--partition=gpu`, `--gres=gpu:1`,
    `--time=4:00:00`. Logs have to lie where all nodes see them, and so has the folder
    that this process was started in, which is the command's too.

    A handle is the job's number and its script: `71 /logs/chunk3.sh`.
    """

    def __init__(self, *, workers: int, options: tuple[str, ...] = ()):
        _check(options)
        self.capacity = workers
        self._options = options

    def submit(self, job: Job) -> str:
        script = job.log.absolute().with_name(f"{job.name}.sh")
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(render(job.command, script), encoding="utf-8")
        log = str(job.log.absolute()).replace("%", "%%")
        words = ("sbatch", "--parsable", *self._options, f"--job-name={job.name}")
        words += (f"--output={log}", "--open-mode=append", "--no-requeue")
        number = _ask(*words, "--dependency=singleton", str(script))
        # In a federation the name of the cluster follows.
        return f"{number.strip().partition(';')[0]} {script}"

    def find(self, name: str) -> str | None:
        known = _queue().items()
        found = sorted((int(n), line) for n, line in known if line.name == name)
        for number, _ in found[1:]:
            _ask("scancel", str(number))
        if not found:
            return None
        number, line = found[0]
        return f"{number} {line.script}"

    def poll(self, handles: Collection[str]) -> dict[str, Status]:
        try:
            queue = _queue()
        except ConnectionError:
            return {}
        found = {handle: self._status(handle, queue) for handle in handles}
        return {handle: status for handle, status in found.items() if status}

    def cancel(self, handle: str) -> None:
        try:
            _ask("scancel", handle.partition(" ")[0])
        except ValueError:
            return  # it has ended

    def close(self) -> None:
        """Nothing to do: jobs outlive us."""

    def _status(self, handle: str, queue: dict[str, _Line]) -> Status | None:
        number, _, script = handle.partition(" ")
        line = queue.get(number)
        if line is not None and line.state in WAITING:
            return Status("waiting")
        if line is not None and line.state in RUNNING:
            return Status("running")
        try:
            code = int(pathlib.Path(script).with_suffix(".code").read_text())
            return Status("ended", code)
        except (OSError, ValueError):
            line = line or _account(number)
        if line is None or line.state in BROKEN:
            return Status("lost")
        if line.code or line.state == "COMPLETED":
            return Status("ended", line.code)
        return Status("lost")


def render(command: tuple[str, ...], script: pathlib.Path) -> str:
    """The batch script that runs a command and keeps its exit code."""
    code = script.with_suffix(".code")
    draft = shlex.quote(str(script.with_suffix(".draft")))
    words = {"command": shlex.join(command), "draft": draft}
    return SCRIPT.format(**words, code=shlex.quote(str(code)))


def _queue() -> dict[str, _Line]:
    """All of the user's jobs that Slurm still knows, by their numbers."""
    fields = "JobID:|,State:|,exit_code:|,Name:|,Command:|"
    words = ("squeue", "--me", "--noheader", "--states=all", f"--Format={fields}")
    found = {}
    for text in _ask(*words).splitlines():
        number, state, code, name, script = text.split("|", 4)
        wait = int(code) if code.isdigit() else 0
        ended = as_shell(os.waitstatus_to_exitcode(wait))
        found[number] = _Line(state, name, script.rstrip("|"), ended)
    return found


def _account(number: str) -> _Line | None:
    """What the accounts say of a job that the queue has forgotten, if there are any."""
    words = ("sacct", "--noheader", "--allocations", "--parsable2")
    try:
        told = _ask(*words, "--format=State,ExitCode", f"--jobs={number}").split("|")
    except (ConnectionError, ValueError):
        return None
    if len(told) != 2:
        return None
    code, _, by = told[1].strip().partition(":")
    # The state may be "CANCELLED by 1000".
    state = told[0].split()[0]
    return _Line(state, "", "", 128 + int(by) if int(by) else int(code))


def _ask(*words: str) -> str:
    """What one of Slurm's commands prints.

    Raises:
      ConnectionError: Slurm is away, and what became of the wish is not known.
      ValueError: it refuses.
    """
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise ValueError(
            f"There is no {words[0]} here: engine.name='slurm' needs Slurm's commands."
        ) from None
    except subprocess.TimeoutExpired as error:
        raise ConnectionError(f"{words[0]}: no answer from Slurm.") from error
    if done.returncode == 0:
        return done.stdout
    said = one_line(done.stderr.strip() or f"{words[0]} ended with {done.returncode}.")
    away = ("unable to contact", "timed out", "temporarily", "connect", "try again")
    if any(word in said.lower() for word in away):
        raise ConnectionError(said)
    raise ValueError(said)


def _check(options: tuple[str, ...]) -> None:
    """Raises ValueError for an option that is none, or that is ours to give."""
    for option in options:
        name, _, _ = option.partition("=")
        if not name.startswith("--") or len(name) < 3 or "\n" in option:
            raise ValueError(
                f"options={shown(option)} is no long option of sbatch, such as "
                "--partition=gpu."
            )
        if name in OURS:
            raise ValueError(
                f"options={shown(option)} is set by us, as {listed(OURS)}."
            )
