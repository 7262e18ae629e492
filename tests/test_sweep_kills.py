"""A sweep whose processes are killed at any moment ends as one that nobody killed."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cluster import record
from study import outcomes, spread
from tests.runs import text_folder
from train.logs import read_json, read_metrics

ROOT = pathlib.Path(__file__).parent.parent
KEYS = dict(
    num_steps="40",
    log_every="10",
    checkpoint__every_steps="10",
    evaluate__every_steps="20",
)


def command(sweep, *words):
    keys = dict(data__folder=str(text_folder()), data__train="squares.txt") | KEYS
    return [
        *(sys.executable, "launch.py", "sweep", f"--workdir={sweep}"),
        "--config=experiments/sweep_rates.py:tiny",
        *(f"--config.{key.replace('__', '.')}={value}" for key, value in keys.items()),
        *words,
    ]


def begun(words):
    return subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"XLA_FLAGS": ""},
    )


def children(pid):
    """The processes below one, those that train among them."""
    below = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == pid:
            below.append(int(path.parent.name))
    return below + [each for child in below for each in children(child)]


def whole(sweep):
    """All that the trials logged but times, and how they ended."""
    found = {}
    for trial in outcomes.read(sweep):
        lines = read_metrics(trial.folder)
        kept = [(x["step"], x["loss"], x.get("val_loss")) for x in lines]
        found[trial.point.id] = (trial.state, kept)
    return found


def killed(words, sweep, kills, seed, losable=()):
    """Kills a sweep or one of its workers so many times, and starts it again."""
    draw, process = random.Random(seed), begun(words)
    for _ in range(kills):
        time.sleep(draw.uniform(0.2, 9.0))
        workers = children(process.pid)
        victim = draw.choice([process.pid, *workers]) if workers else process.pid
        with contextlib.suppress(ProcessLookupError):  # it may have just ended
            os.kill(victim, signal.SIGKILL)
        if victim == process.pid or process.poll() is not None:
            process.communicate()
            for name in losable:
                (sweep / name).unlink(missing_ok=True)
            process = begun(words)
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error.decode()[-500:]


def given_up(sweep):
    """The trials of processes that were killed too often, by the record of jobs."""
    if not (sweep / "jobs.jsonl").is_file():
        return set()
    _, jobs = record.read(sweep / "jobs.jsonl")
    lost = [name for name, job in jobs.items() if job.failures > spread.ATTEMPTS]
    parts = [read_json(sweep / "chunks" / f"{name}.json")["trials"] for name in lost]
    return {name for part in parts for name, _ in part}


@pytest.mark.slow
@pytest.mark.parametrize("engine", [(), ("--engine=processes", "--workers=2")])
def test_a_sweep_that_is_killed_many_times_is_the_sweep(tmp_path, engine):
    kills = 50
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    # Half of the points, in two shapes; engines cut it in two parts.
    search = ("--search=random", "--trials=2")
    done = begun(command(calm, *search, *engine))
    done.communicate()
    assert done.returncode == 0
    words = command(stormy, *search, *engine)
    killed(words, stormy, kills, seed=1, losable=["table.csv", "sweep.png"])
    first, second = whole(calm), whole(stormy)
    assert first.keys() == second.keys()
    lost = given_up(stormy)
    for trial in outcomes.read(stormy):
        name = trial.point.id
        state, lines = second[name]
        assert first[name][0] == "done"
        assert state == "done" or (state == "failed" and trial.folder.name in lost)
        if state == "done":
            np.testing.assert_array_equal(lines, first[name][1])
            assert trial.summary["steps"] == 40
    rows = [(sweep / "table.csv").read_text().splitlines() for sweep in (calm, stormy)]
    assert rows[0][0] == rows[1][0]
    assert len(rows[0]) == len(rows[1])
