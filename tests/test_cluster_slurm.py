"""Slurm: what is asked of its commands, and all of it on a real one of two nodes."""

import os
import pathlib
import signal
import stat
import subprocess
import sys
import time

import pytest

from cluster import ENGINES, slurm
from cluster.dispatch import dispatch
from cluster.engine import Job, Status
from cluster.record import read
from cluster.slurm import Slurm, render
from core import registry
from core.exits import PREEMPTED
from tests import slurming
from tests.workers import worker

ROOT = pathlib.Path(__file__).parent.parent

POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Commands of that name which note their words and answer with a file's content."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def give(name, answer="", code=0, errors=""):
        program = tmp_path / "bin" / name
        (tmp_path / f"{name}.out").write_text(answer)
        (tmp_path / f"{name}.err").write_text(errors)
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> {tmp_path}/words\n'
            f"cat {tmp_path}/{name}.err >&2; cat {tmp_path}/{name}.out; exit {code}\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        return tmp_path / "words"

    return give


def test_a_job_is_submitted_with_the_options_of_the_user_and_ours(tmp_path, fake):
    words = fake("sbatch", "71;cluster\n")
    config = {"name": "slurm", "workers": 3, "options": ("--partition=gpu", "--mem=4G")}
    engine = registry.build(ENGINES, config)
    log = tmp_path / "logs" / "100%.log"
    handle = engine.submit(Job("c1.key.2", ("echo", "a b", "$HOME;"), log))
    script = tmp_path / "logs" / "c1.key.2.sh"
    assert handle == f"71 {script}"
    assert words.read_text().splitlines() == [
        *("sbatch", "--parsable", "--partition=gpu", "--mem=4G"),
        *("--job-name=c1.key.2", f"--output={tmp_path}/logs/100%%.log"),
        *("--open-mode=append", "--no-requeue", "--dependency=singleton", str(script)),
    ]
    done = subprocess.run(["bash", str(script)], capture_output=True, check=True)
    assert done.stdout == b"a b $HOME;\n"
    assert script.with_suffix(".code").read_text() == "0\n"


@pytest.mark.parametrize(
    ("queue", "code", "account", "expected"),
    [
        ("71|PENDING|0|n|s|", "", "", Status("waiting")),
        ("71|RUNNING|0|n|s|", "", "", Status("running")),
        # The code is written before Slurm knows of the end.
        ("71|RUNNING|0|n|s|", "75", "", Status("running")),
        ("71|COMPLETING|0|n|s|", "75", "", Status("running")),
        ("71|COMPLETED|0|n|s|", "", "", Status("ended", 0)),
        ("71|FAILED|19712|n|s|", "", "", Status("ended", 77)),
        ("71|FAILED|9|n|s|", "", "", Status("ended", 137)),
        ("71|CANCELLED|19200|n|s|", "", "", Status("ended", 75)),
        ("71|CANCELLED|0|n|s|", "", "", Status("lost")),
        ("71|TIMEOUT|0|n|s|", "75", "", Status("ended", 75)),
        ("71|NODE_FAIL|256|n|s|", "", "", Status("lost")),
        ("71|NODE_FAIL|256|n|s|", "0", "", Status("ended", 0)),
        ("7|RUNNING|0|n|s|", "78", "", Status("ended", 78)),
        ("", "", "FAILED|77:0\n", Status("ended", 77)),
        ("", "", "OUT_OF_MEMORY|0:9\n", Status("ended", 137)),
        ("", "", "CANCELLED by 5|0:0\n", Status("lost")),
        ("", "", "NODE_FAIL|1:0\n", Status("lost")),
        ("", "", "", Status("lost")),
    ],
)
def test_what_became_of_a_job_is_read_off_the_queue_the_code_and_the_accounts(
    tmp_path, fake, queue, code, account, expected
):
    fake("squeue", f"9|RUNNING|0|a|b|c|\n{queue}\n".replace("\n\n", "\n"))
    fake("sacct", account, code=0 if account else 1)
    if code:
        (tmp_path / "c.key.1.code").write_text(f"{code}\n")
    handle = f"71 {tmp_path}/c.key.1.sh"
    assert Slurm(workers=1).poll([handle]) == {handle: expected}


def test_a_slurm_that_is_away_leaves_everything_as_it_was(fake):
    away = "error: Unable to contact slurm controller (connect failure)"
    for name in ("squeue", "sbatch", "scancel"):
        fake(name, code=1, errors=f"{name}: {away}")
    engine = Slurm(workers=1)
    assert engine.poll(["71 /s.sh"]) == {}
    for call in (engine.find, engine.cancel):
        with pytest.raises(ConnectionError, match="Unable to contact"):
            call("71 /s.sh")


def test_a_submission_that_slurm_refuses_is_one_line(tmp_path, fake):
    fake("sbatch", code=1, errors="sbatch: error: invalid partition\nsbatch: failed\n")
    job = Job("a.key.1", ("true",), tmp_path / "a.log")
    with pytest.raises(ValueError, match="sbatch: error: invalid partition sbatch: fa"):
        Slurm(workers=1).submit(job)


def test_without_the_commands_of_slurm_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"^There is no squeue here: .* needs Slurm's"):
        Slurm(workers=1).find("a")


@pytest.mark.parametrize("option", ["gpu", "-p", "--", "--time=1\n2", "--array=1-3"])
def test_an_option_that_is_none_or_that_is_ours_is_refused(option):
    with pytest.raises(ValueError, match=r"^options=") as caught:
        Slurm(workers=1, options=("--time=5", option))
    assert "\n" not in str(caught.value)


def test_the_script_keeps_the_code_of_a_command_that_saves_when_asked(tmp_path):
    script, log = tmp_path / "a.key.1.sh", tmp_path / "log"
    script.write_text(render((sys.executable, "-I", "-S", "-c", POLITE), script))
    with log.open("w") as file:
        process = subprocess.Popen(
            ["bash", str(script)], stdout=file, start_new_session=True
        )
    while not log.read_text():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == PREEMPTED
    assert script.with_suffix(".code").read_text() == "75\n"


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """A real Slurm of two nodes, and a folder that they see."""
    why = slurming.missing()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm")
    with slurming.slurm(folder):
        yield tmp_path_factory.mktemp("work")


def run(engine, jobs, folder, **how):
    words = {"attempts": 2, "every_seconds": 0.1} | how
    return dispatch(jobs, engine, record=folder / "record.jsonl", **words)


@pytest.mark.slow
def test_on_a_real_slurm_jobs_are_started_again_until_they_end(two_nodes, tmp_path):
    folder = two_nodes / tmp_path.name
    folder.mkdir()
    jobs = [
        worker(folder, "plain"),
        worker(folder, "a_long_name_that_a_table_of_slurm_would_cut", 75, 134, 0),
        worker(folder, "diverges", 77),
        worker(folder, "killed", 137, 137, 137, 0),
    ]
    ends = run(Slurm(workers=2), jobs, folder)
    assert list(ends.values()) == [0, 0, 77, 137]
    starts = [len((folder / job.name / "starts").read_text()) for job in jobs]
    assert starts == [1, 3, 1, 3]


@pytest.mark.slow
def test_on_a_real_slurm_a_job_is_stopped_by_cancel_and_saves(two_nodes, tmp_path):
    folder = two_nodes / tmp_path.name
    folder.mkdir()
    words = (sys.executable, "-I", "-S", "-c", POLITE)
    jobs = [Job(name, words, folder / f"{name}.log") for name in ("one", "two")]

    def stop(name):
        log = folder / f"{name}.log"
        return log.exists() and "up" in log.read_text()

    ends = run(Slurm(workers=2), jobs, folder, stop=stop)
    assert ends == {"one": PREEMPTED, "two": PREEMPTED}


@pytest.mark.slow
def test_on_a_real_slurm_a_twin_of_a_submission_never_runs(two_nodes, tmp_path):
    folder = two_nodes / tmp_path.name
    folder.mkdir()
    engine = Slurm(workers=2)
    job = worker(folder, "twin", gate=folder / "gate")
    job = job._replace(name="twin.key.1")
    first, second = engine.submit(job), engine.submit(job)
    assert engine.find(job.name) == first
    (folder / "gate").touch()
    found = engine.poll([first, second])
    while {"waiting", "running"} & {status.state for status in found.values()}:
        time.sleep(0.1)
        found = engine.poll([first, second])
    # The second was cancelled as it waited; the code is that of their one submission.
    assert set(found.values()) == {Status("ended", 0)}
    assert (folder / "twin" / "starts").read_text() == "x"
    assert engine.find("twin.key.2") is None


CONTROLLER = """
import pathlib, sys
from cluster.dispatch import dispatch
from cluster.slurm import Slurm
from tests.workers import worker
folder = pathlib.Path(sys.argv[1])
jobs = [worker(folder, f"j{i}", gate=folder / "gate") for i in range(4)]
dispatch(jobs, Slurm(workers=2), record=folder / "record.jsonl", attempts=9,
         every_seconds=0.05)
"""


@pytest.mark.slow
def test_on_a_real_slurm_jobs_outlive_their_controller_and_are_adopted(
    two_nodes, tmp_path
):
    folder = two_nodes / tmp_path.name
    folder.mkdir()
    jobs = [worker(folder, f"j{i}", gate=folder / "gate") for i in range(4)]

    def kill(seconds):
        words = [sys.executable, "-c", CONTROLLER, str(folder)]
        controller = subprocess.Popen(words, cwd=ROOT)
        while not (folder / "record.jsonl").exists():
            time.sleep(0.01)
        time.sleep(seconds)
        controller.kill()
        controller.wait()

    kill(0.0)  # about when the first is submitted
    for seconds in (2.5, 3.0, 3.5):
        kill(seconds)
    (folder / "gate").touch()
    assert run(Slurm(workers=2), jobs, folder) == {job.name: 0 for job in jobs}
    for job in jobs:
        assert (folder / job.name / "starts").read_text() == "x"
        assert not (folder / job.name / "two_at_once").exists()
    _, known = read(folder / "record.jsonl")
    assert [job.submissions for job in known.values()] == [1] * 4


@pytest.mark.slow
def test_on_a_real_slurm_a_submission_that_was_not_recorded_is_found(
    two_nodes, tmp_path, monkeypatch
):
    folder = two_nodes / tmp_path.name
    folder.mkdir()
    job, submit = worker(folder, "found", gate=folder / "gate"), Slurm.submit

    class Crash(BaseException):
        pass

    def crash(self, job):
        submit(self, job)
        raise Crash

    monkeypatch.setattr(slurm.Slurm, "submit", crash)
    with pytest.raises(Crash):
        run(Slurm(workers=2), [job], folder)
    (folder / "gate").touch()
    # Whether it runs or has ended by now: it is not submitted again.
    assert run(Slurm(workers=2), [job], folder) == {"found": 0}
    assert (folder / "found" / "starts").read_text() == "x"
