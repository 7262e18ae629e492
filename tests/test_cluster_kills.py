"""SIGKILL of workers and of their controller at random: nothing is done twice."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from cluster.processes import MARK
from cluster.record import read
from core.exits import NUMERICS
from tests.workers import ALONE, worker

CONTROLLER = f"""{ALONE}
import json, pathlib
from cluster.dispatch import dispatch
from cluster.engine import Job
from cluster.processes import Processes
record, workers, attempts, *jobs = json.loads(sys.argv[1])
jobs = [Job(name, tuple(command), pathlib.Path(log)) for name, command, log in jobs]
ends = dispatch(
    jobs, Processes(workers=workers), record=record, attempts=attempts,
    every_seconds=0.01,
)
print(json.dumps(ends))
"""


def start(folder, jobs, attempts):
    """A controller as a process of its own."""
    workers = len(os.sched_getaffinity(0))
    plain = [(job.name, job.command, str(job.log)) for job in jobs]
    words = [str(folder / "record.jsonl"), workers, attempts, *plain]
    return subprocess.Popen(
        [sys.executable, "-S", "-c", CONTROLLER, json.dumps(words)],
        stdout=subprocess.PIPE,
        text=True,
    )


def processes_of(key):
    """The ids of the processes that work for that record."""
    mark, found = MARK.encode(), []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # no process, or one that has ended
        names = [word for word in words if word.startswith(mark)]
        if names and names[0].decode().split(".")[-2] == key:
            found.append(int(entry.name))
    return found


def storm(folder, jobs, attempts, kills, rng):
    """Kills so many times, starts the controller again, and returns how all ended."""
    record = folder / "record.jsonl"
    kinds = [
        "controller" if number % 5 in (1, 3) else "worker" for number in range(kills)
    ]
    rng.shuffle(kinds)
    controller = start(folder, jobs, attempts)
    while kinds:
        assert controller.poll() is None
        time.sleep(rng.random() * 0.3)
        found = processes_of(read(record)[0]) if record.exists() else []
        if not found:
            continue
        if kinds.pop() == "worker":
            os.kill(rng.choice(found), signal.SIGKILL)
        else:
            controller.kill()
            controller.communicate()
            controller = start(folder, jobs, attempts)
    (folder / "gate").touch()
    answer, _ = controller.communicate(timeout=200)
    assert controller.returncode == 0
    return json.loads(answer)


@pytest.mark.parametrize(
    ("kills", "num_jobs", "seed"),
    [(3, 3, 0), pytest.param(100, 40, 1, marks=pytest.mark.slow)],
)
def test_whoever_is_killed_every_job_ends_and_none_is_done_twice(
    tmp_path, kills, num_jobs, seed
):
    # Not done before the last kill, so that there is always one to kill.
    jobs = [worker(tmp_path, "held", gate=tmp_path / "gate")]
    jobs += [worker(tmp_path, f"chunk{i}", steps=20) for i in range(num_jobs)]
    jobs.append(worker(tmp_path, "diverges", NUMERICS, steps=20))
    ends = storm(tmp_path, jobs, kills, kills, random.Random(seed))
    assert ends == {job.name: 0 for job in jobs} | {"diverges": NUMERICS}
    for job in jobs:
        assert (tmp_path / job.name / "completions").read_text() == "x"
        assert not (tmp_path / job.name / "two_at_once").exists()
    key, known = read(tmp_path / "record.jsonl")
    assert {name: job.code for name, job in known.items()} == ends
    assert processes_of(key) == []
    size = (tmp_path / "record.jsonl").stat().st_size
    again = start(tmp_path, jobs, attempts=kills)
    assert json.loads(again.communicate(timeout=60)[0]) == ends
    assert (tmp_path / "record.jsonl").stat().st_size == size
