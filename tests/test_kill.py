"""SIGKILL at random moments: what is left goes on to the same bits."""

import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from core.exits import PREEMPTED
from core.settings import dump
from tests.runs import reading
from tests.test_run import assert_same_run, lines_of
from train import manifest
from train.checkpoints import Checkpoints

ROOT = pathlib.Path(__file__).parent.parent


def start(config_file, folder):
    """The run as a process of its own."""
    words = [f"--config={config_file}", f"--workdir={folder}"]
    return subprocess.Popen(
        [sys.executable, "launch.py", "train", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process, folder, rng):
    """Mostly while it steps and saves, now and then while it starts."""
    metrics = folder / "metrics.jsonl"

    def size():
        return metrics.stat().st_size if metrics.exists() else 0

    before, early = size(), rng.random() < 0.2
    until = time.monotonic() + (rng.random() * 4 if early else 300)
    while process.poll() is None and size() <= before and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(rng.random() * 0.4)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def assert_readable(folder):
    """Each listed checkpoint is whole, and each line of metrics stands there once."""
    if (folder / "checkpoints").is_dir():
        where = folder / "checkpoints"
        with Checkpoints(where, every_steps=1, read_only=True) as kept:
            for step in kept.steps:
                manifest.verify(where / str(step))
    if (folder / "metrics.jsonl").exists():
        steps = [line["step"] for line in lines_of(folder)]
        assert steps == sorted(set(steps))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_it_interrupts(tmp_path, number):
    config_file, folder = tmp_path / "config.json", tmp_path / "run"
    flat = dict(optim__schedule__name="constant", checkpoint__every_steps=100_000)
    config_file.write_text(dump(reading(num_steps=100_000, log_every=1, **flat)))
    process = start(config_file, folder)
    while process.poll() is None and not (folder / "metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == PREEMPTED, errors
    with Checkpoints(folder / "checkpoints", every_steps=1, read_only=True) as kept:
        assert kept.durable_step == lines_of(folder)[-1]["step"]


@pytest.mark.parametrize(
    ("kills", "steps_each", "seed"),
    [(1, 30, 0), pytest.param(20, 150, 1, marks=pytest.mark.slow)],
)
def test_a_run_killed_again_and_again_is_the_same_run(
    tmp_path, kills, steps_each, seed
):
    config = reading(
        num_steps=steps_each * (kills + 1),
        log_every=7,
        model__dropout=0.1,
        checkpoint__every_steps=4,
        evaluate__every_steps=30,
        optim__schedule__name="constant",
    )
    config_file = tmp_path / "config.json"
    config_file.write_text(dump(config))
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    rng = random.Random(seed)
    for _ in range(kills):
        kill(start(config_file, killed), killed, rng)
        assert_readable(killed)
    for folder in (killed, straight):
        process = start(config_file, folder)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert_same_run(straight, killed, config)
