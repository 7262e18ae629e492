"""Ray: what its job server is asked, and what its answers mean."""

import enum
import pathlib
import subprocess
import sys
import types

import pytest

from cluster import ENGINES
from cluster.dispatch import dispatch
from cluster.engine import Job, Status
from core import registry
from core.exits import DONE, NUMERICS, PREEMPTED


class JobStatus(enum.StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class JobSubmissionClient:
    """A job server that runs each job at once; `away` is that of the last one made."""

    last: "JobSubmissionClient"

    def __init__(self, address):
        if "nowhere" in address:
            raise ConnectionError(f"Failed to connect to Ray at address: {address}.")
        self.jobs, self.words, self.away = {}, {}, False
        type(self).last = self

    def submit_job(self, *, entrypoint, submission_id, **words):
        if submission_id in self.jobs:
            raise RuntimeError("Request failed with status code 500: it exists")
        code = subprocess.run(["sh", "-c", entrypoint], check=False).returncode
        self.words[submission_id] = words
        self.set(submission_id, "SUCCEEDED" if code == 0 else "FAILED", code)

    def set(self, name, status, code=None):
        word = JobStatus(status)
        self.jobs[name] = types.SimpleNamespace(status=word, driver_exit_code=code)

    def get_job_info(self, name):
        if self.away:
            raise OSError("Connection refused")
        if name not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: no job {name}")
        return self.jobs[name]

    def stop_job(self, name):
        self.get_job_info(name)
        self.set(name, "STOPPED")


@pytest.fixture
def make(monkeypatch):
    """Builds the engine over the fake of Ray."""
    module = types.ModuleType("ray.job_submission")
    monkeypatch.setattr(
        module, "JobSubmissionClient", JobSubmissionClient, raising=False
    )
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.job_submission", module)
    return lambda **how: registry.build(ENGINES, {"name": "ray", "workers": 2} | how)


def shell(name, text, folder):
    return Job(name, ("sh", "-c", text), folder / "logs" / f"{name} 1.log")


def test_jobs_run_in_our_folder_with_their_logs_and_needs(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = make(cpus=2.0, gpus=0.5)
    jobs = [
        shell("good", 'pwd; echo "it\'s" >&2', tmp_path),
        shell("bad", f"exit {NUMERICS}", tmp_path),
        shell("killed", "kill -9 $$", tmp_path),
    ]
    record = tmp_path / "record.jsonl"
    ends = dispatch(jobs, engine, record=record, attempts=1, every_seconds=0)
    assert ends == {"good": DONE, "bad": NUMERICS, "killed": 137}
    assert jobs[0].log.read_text() == f"{tmp_path}\nit's\n"
    needs = {"entrypoint_num_cpus": 2.0, "entrypoint_num_gpus": 0.5}
    words = JobSubmissionClient.last.words
    assert list(words.values()) == [needs] * 4
    assert [name.split(".")[0] for name in words] == ["good", "bad", "killed", "killed"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("PENDING", None, Status("waiting")),
        ("RUNNING", None, Status("running")),
        ("STOPPED", None, Status("ended", PREEMPTED)),
        ("SUCCEEDED", 0, Status("ended", 0)),
        ("FAILED", 75, Status("ended", 75)),
        ("FAILED", -6, Status("ended", 134)),
        ("FAILED", None, Status("lost")),
    ],
)
def test_what_became_of_a_job_is_read_off_the_server(make, status, code, expected):
    engine = make()
    JobSubmissionClient.last.set("a.k.1", status, code)
    found = engine.poll(["a.k.1", "a.k.2"])
    assert found == {"a.k.1": expected, "a.k.2": Status("lost")}
    assert (engine.find("a.k.1"), engine.find("a.k.2")) == ("a.k.1", None)


def test_a_server_that_is_away_leaves_everything_as_it_was(make):
    engine = make()
    JobSubmissionClient.last.away = True
    assert engine.poll(["a"]) == {}
    for call in (engine.find, engine.cancel):
        with pytest.raises(ConnectionError, match="No answer from Ray: Connection ref"):
            call("a")


def test_no_server_and_no_ray_are_said_in_one_line(make, monkeypatch):
    with pytest.raises(
        ValueError, match=r"^engine\.address='http://nowhere' is no job"
    ):
        make(address="http://nowhere")
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(ValueError, match=r"pip install 'steepest\[ray\]'"):
        make()


def test_a_command_is_quoted_for_the_shell_of_ray(make, tmp_path):
    words = ("printf", "%s|", "a b", "$HOME", "it's", "")
    make().submit(Job("q.k.1", words, pathlib.Path(tmp_path / "q's log")))
    assert (tmp_path / "q's log").read_text() == "a b|$HOME|it's||"
