"""The command submit: our commands, given to clusters of others."""

import shlex

import pytest

import launch
from tests.test_cluster_render import calls, tool  # noqa: F401 - a fixture

RUN = "sweep --config=experiments/sweep_rates.py '--workdir=gs://b/my sweep'"
WORDS = {
    "jobset": ["--topology=v5e:4x4", "--image=gcr.io/me/steepest:1"],
    "skypilot": ["--accelerators=H100:8", "--spot"],
    "gcloud": ["--topology=v5e:4x4", "--project=my-project-1", "--zone=us-east5-a"],
}


def submit(to, *words, run=RUN):
    return launch.main(["submit", f"--to={to}", "--job=mine", f"--run={run}", *words])


@pytest.mark.parametrize("to", WORDS)
def test_a_dry_run_prints_all_and_does_nothing(to, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert submit(to, *WORDS[to], "--dry-run") == 0
    text = capsys.readouterr().out
    # Each word arrives, whatever quotes it on its way.
    words = shlex.split(RUN)
    assert all(word in text.replace("'", "").replace('"', "") for word in words)
    assert not list(tmp_path.iterdir())


def test_the_tool_of_the_cluster_gets_the_text(tool, tmp_path, capsys):  # noqa: F811
    tool("sky")
    file = tmp_path / "job.yaml"
    assert submit("skypilot", *WORDS["skypilot"], f"--file={file}") == 0
    assert calls(tmp_path) == [["jobs", "launch", "--yes", str(file)]]
    assert "use_spot: true" in file.read_text()


def test_the_code_of_what_failed_is_ours(tool, capsys):  # noqa: F811
    tool("gcloud", "ssh")
    assert submit("gcloud", *WORDS["gcloud"]) == 9
    assert "a command of it ended with code 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "words", "run", "line"),
    [
        ("jobst", [], RUN, "--to='jobst' is not known. Did you mean 'jobset'?"),
        ("jobset", ["--zone=a"], RUN, "zone='a' is not known. Known: ['image',"),
        ("gcloud", WORDS["gcloud"][:2], RUN, "zone has no value, and it needs one."),
        ("jobset", ["--max-restarts=x"], RUN, "max_restarts='x' must be an integer"),
        ("jobset", WORDS["jobset"], "tran --a=b", "'tran' is no command. Did you mean"),
        ("jobset", WORDS["jobset"], "train --cofig=b", "Did you mean '--config'?"),
        ("jobset", WORDS["jobset"], "submit --a=b", "--run=submit would submit itself"),
        ("jobset", WORDS["jobset"], "train '", "must be a command, such as 'train"),
    ],
)
def test_a_mistake_is_one_line(to, words, run, line, capsys):
    assert submit(to, *words, "--dry-run", run=run) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
