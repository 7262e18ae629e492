"""Jobs for the clusters of others: their texts as they were, what their tools get."""

import os
import pathlib
import re

import pytest
import yaml

from cluster import RENDERINGS, render
from cluster.topology import KINDS, Topology
from core import registry

GOLDEN = pathlib.Path(__file__).parent / "golden" / "cluster"
COMMAND = (
    "python",
    "launch.py",
    "sweep",
    "--workdir=gs://b/my sweep",
    "--chunk=c's.json",
)
CONFIGS = {
    "jobset": dict(topology="v5e:4x4", image="gcr.io/me/steepest:1"),
    "skypilot": dict(accelerators="H100:8", spot=True),
    "gcloud": dict(topology="v5p:2x2x2", project="my-project-1", zone="us-east5-a"),
}


def rendered(name, path=pathlib.Path("job.yaml"), job="sweep-c003", **changes):
    config = {"name": name} | CONFIGS[name] | changes
    # The config's `name` is the rendering's; the job has its own.
    return registry.build(RENDERINGS, config, job=job, command=COMMAND, path=path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_rendering_is_as_it_was_and_a_dry_run_prints_it_and_starts_nothing(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert render.start(rendered(name), dry_run=True) == 0
    told = capsys.readouterr().out
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / f"{name}.txt").write_text(told)
    assert told == (GOLDEN / f"{name}.txt").read_text()
    assert list(tmp_path.iterdir()) == []


def test_every_rendering_has_its_golden_file():
    assert RENDERINGS.keys() == CONFIGS.keys()
    assert {path.stem for path in GOLDEN.iterdir()} == RENDERINGS.keys()


def test_the_texts_are_yaml_that_holds_the_command_word_for_word():
    tree = yaml.safe_load(rendered("jobset").text)
    job = tree["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert container["command"] == list(COMMAND)
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert job["parallelism"] == job["completions"] == 4
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2, 76, 77, 78]
    odd = "a: 'b' \"c\" # d\n\N{SNOWMAN}\N{PILE OF POO}\t\\"
    tree = yaml.safe_load(rendered("skypilot", job="yes", setup=odd).text)
    assert (tree["name"], tree["setup"]) == ("yes", odd)
    assert tree["resources"]["use_spot"] is True
    assert tree["resources"]["job_recovery"]["recover_on_exit_codes"] == [75, 134]
    assert "'--workdir=gs://b/my sweep'" in tree["run"]


def test_a_slice_of_tpus_is_named_as_skypilot_names_it():
    assert "tpu-v5litepod-16:1" in rendered("skypilot", accelerators="v5e:4x4").text


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A fake of that name on the PATH, which notes its words and ends as told."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def fake(name, fails="nothing"):
        program = tmp_path / "bin" / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" -- >> {tmp_path}/words\n'
            f'case "$4" in {fails}) exit 9;; esac\n'
        )
        program.chmod(0o755)

    return fake


def calls(folder):
    """The words of each call of a fake."""
    *found, _ = (folder / "words").read_text().split("--\n")
    return [call.splitlines() for call in found]


def test_tpu_vms_are_made_filled_used_and_deleted(tool, tmp_path):
    tool("gcloud")
    assert render.start(rendered("gcloud")) == 0
    made = calls(tmp_path)
    where = ["--project=my-project-1", "--zone=us-east5-a"]
    assert all(call[:3] == ["compute", "tpus", "tpu-vm"] for call in made)
    assert all(call[-2:] == where for call in made)
    assert [call[3] for call in made] == ["create", "scp", "ssh", "delete"]
    assert "--accelerator-type=v5p-16" in made[0]
    assert "--spot" not in made[0]
    inside = next(word for word in made[2] if word.startswith("--command="))
    assert inside.endswith("'--workdir=gs://b/my sweep' '--chunk=c'\"'\"'s.json'")


@pytest.mark.parametrize("fails", ["create", "scp", "ssh"])
def test_tpu_vms_are_deleted_whatever_fails_and_its_code_is_told(tool, tmp_path, fails):
    tool("gcloud", fails)
    assert render.start(rendered("gcloud", spot=True)) == 9
    verbs = [call[3] for call in calls(tmp_path)]
    order = ["create", "scp", "ssh"]
    assert verbs == [*order[: order.index(fails) + 1], "delete"]
    assert "--spot" in calls(tmp_path)[0]


def test_a_job_set_is_written_and_applied(tool, tmp_path):
    tool("kubectl")
    job = rendered("jobset", tmp_path / "job.yaml")
    assert render.start(job) == 0
    assert (tmp_path / "job.yaml").read_text() == job.text
    assert calls(tmp_path) == [["apply", "-f", str(tmp_path / "job.yaml")]]


def test_a_tool_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="There is no sky here"):
        render.start(rendered("skypilot", tmp_path / "job.yaml"))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("jobset", dict(job="Sweep"), "name='Sweep' must be up to 40 of"),
        ("jobset", dict(job="a\nb"), r"name='a\\nb' must be"),
        ("jobset", dict(image="a b"), "image='a b' must be an image"),
        ("jobset", dict(topology="v5:4x4"), "topology='v5' is not known. Did you mean"),
        ("jobset", dict(topology="v5e"), "topology='v5e' needs a kind and a shape"),
        ("jobset", dict(topology="v5p:4x4"), "must have 3 dimensions"),
        ("jobset", dict(topology="v5e:3x5"), "has 15 chips, which is no multiple of 4"),
        ("skypilot", dict(accelerators="H100"), "accelerators='H100' must be a slice"),
        ("gcloud", dict(zone="us"), "zone='us' must be a zone, such as us-central2-b"),
        ("gcloud", dict(project="x; rm"), "project='x; rm' must be a project"),
        ("gcloud", dict(job="-x"), "name='-x' must be"),
    ],
)
def test_a_bad_name_is_refused_in_one_line(name, changes, said):
    with pytest.raises(ValueError, match=re.compile(said)) as caught:
        rendered(name, **changes)
    assert "\n" not in str(caught.value)


# Chips, hosts and accelerator type as Google's tables have them.
@pytest.mark.parametrize(
    ("text", "chips", "hosts", "gcloud"),
    [
        ("v4:2x2x1", 4, 1, "v4-8"),
        ("v4:4x4x4", 64, 16, "v4-128"),
        ("v5e:1x1", 1, 1, "v5litepod-1"),
        ("v5e:2x4", 8, 1, "v5litepod-8"),
        ("v5e:16x16", 256, 64, "v5litepod-256"),
        ("v5p:2x2x1", 4, 1, "v5p-8"),
        ("v5p:4x4x8", 128, 32, "v5p-256"),
        ("v6e:4x4", 16, 4, "v6e-16"),
    ],
)
def test_a_topology_has_the_size_and_name_of_the_tables(text, chips, hosts, gcloud):
    found = Topology.of(text)
    assert (found.chips, found.hosts, found.gcloud) == (chips, hosts, gcloud)
    assert found.gke == text.partition(":")[2]
    assert found.kind in KINDS.values()
