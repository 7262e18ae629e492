"""study/trunk.py and study/forks.py: a branch is the run that nobody forked."""

import json
import os
import shutil

import jax
import numpy as np
import pytest

import launch
from study import forks, outcomes, sweep, trunk
from study.forks import grow
from study.search.wanted import Search
from study.trunk import Cost, branch, fork_at, named, total
from tests.runs import PLAIN, reading
from train import manifest, run
from train.assemble import assemble
from train.checkpoints import Checkpoints
from train.folder import Folder
from train.logs import read_json, read_metrics, write_json

pytestmark = pytest.mark.usefixtures("undrawn")

TIMES = ("seconds", "tokens_per_second")
KEYS = dict(
    optim__schedule__name="wsd",
    optim__schedule__warmup_steps=2,
    log_every=5,
    checkpoint__every_steps=8,
    checkpoint__keep=4,
    evaluate__every_steps=0,
    model__dropout=0.1,
)


def config_of(num_steps, decay_steps, **keys):
    length = dict(num_steps=num_steps, optim__schedule__decay_steps=decay_steps)
    return reading(**KEYS, **length, **keys)


def lines_of(folder):
    """`metrics.jsonl` without what a clock says."""
    lines = read_metrics(folder)
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def state_of(folder):
    """The last checkpoint's state, as a list of arrays."""
    parts = assemble(Folder(folder).read_config())
    shape = parts.program.shape(parts.values, jax.random.key(0))
    with Checkpoints(folder / "checkpoints", every_steps=1, read_only=True) as kept:
        return [np.asarray(x) for x in jax.tree.leaves(kept.restore(shape)[1])]


def assert_same_run(one, other):
    assert lines_of(one) == lines_of(other)
    pairs = zip(state_of(one), state_of(other), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def of_other_code(folder):
    """The run in the folder, as if other code had brought it to step 16."""
    seal = folder / "checkpoints" / "16" / "manifest.json"
    facts = json.loads(seal.read_text())
    facts["fingerprint"]["code"] = "other"
    seal.unlink()
    kept = {k: facts[k] for k in facts if k not in ("format", "files", "digest")}
    manifest.seal(seal.parent, **kept)
    return folder


@pytest.fixture(scope="module")
def long(tmp_path_factory, undrawn):
    """A run of 24 steps with checkpoints at 8, 16 and 24; the trunk of the others."""
    folder = tmp_path_factory.mktemp("long")
    run.train(config_of(24, 6), str(folder))
    return folder


@pytest.fixture(scope="module")
def short(long, tmp_path_factory):
    """A branch of 20 steps from step 16."""
    folder = tmp_path_factory.mktemp("branches") / "short"
    config = config_of(20, 4)
    branch(Folder(long), 16, assemble(config), folder)
    run.train(config, str(folder))
    return folder


def test_a_branch_is_the_run_that_was_not_interrupted_to_the_bit(short, tmp_path):
    run.train(config_of(20, 4), str(tmp_path))
    assert_same_run(short, tmp_path)
    assert lines_of(short)[-1]["rate"] < lines_of(short)[-2]["rate"]


def test_a_branch_says_what_its_trunk_spent_and_many_share_it_once(long, short):
    record = read_json(short / "trunk.json")
    at_fork = read_metrics(long)[2]  # the last log line before step 16
    assert at_fork["step"] == 15
    assert record["cost"]["steps"] == 16
    assert record["cost"]["seconds"] == at_fork["seconds"]
    whole, part = (read_json(x / "summary.json") for x in (long, short))
    each = whole["model_flops"] / 24
    assert record["cost"]["model_flops"] == pytest.approx(16 * each)
    both = total([long, short])
    assert both.steps == 24 + 4
    assert both.tokens == pytest.approx(28 * whole["tokens"] / 24)
    assert both.model_flops == pytest.approx(28 * each)
    spent = whole["seconds"] + part["seconds"] - at_fork["seconds"]
    assert both.seconds == pytest.approx(spent)
    assert total([short]).steps == total([short, short]).steps == 20
    assert total([long]) == Cost(*(whole[field] for field in Cost._fields))


def test_a_branch_of_a_branch_counts_each_stretch_once(tmp_path):
    def made(name, steps, of=None, at=0):
        folder = tmp_path / name
        folder.mkdir()
        write_json(folder / "config.json", {"seed": name})
        cost = Cost(steps, 10 * steps, 0.5 * steps, 3.0 * steps)
        write_json(folder / "summary.json", cost._asdict())
        if of is not None:
            spent = Cost(at, 10 * at, 0.5 * at, 3.0 * at)._asdict()
            above = trunk._record(Folder(of))
            parent = {"id": trunk._id(Folder(of)), "checkpoint": f"{of.name}{at}"}
            write_json(folder / "trunk.json", parent | {"cost": spent, "trunk": above})
        return folder

    root = made("root", 100)
    low, high = made("low", 60, root, 40), made("high", 130, root, 90)
    leaf = made("leaf", 75, low, 50)
    assert total([root, low, high, leaf]) == Cost(185, 1850, 92.5, 555.0)
    assert total([leaf]).steps == 75
    assert total([leaf, low]).steps == 40 + 20 + 25
    assert total([high, leaf]).steps == 90 + 40 + 10 + 25


def test_a_name_follows_from_the_content_alone(long, tmp_path):
    config, other = config_of(20, 4), config_of(20, 5)
    first = named(fork_at(Folder(long), 16), config)
    assert first.startswith("step=16,num_steps=20,decay_steps=4,seed=0-")
    moved = shutil.copytree(long, tmp_path / "moved")
    assert named(fork_at(Folder(moved), 16), config) == first
    assert named(fork_at(Folder(long), 8), config) != first
    assert named(fork_at(Folder(long), 16), other) != first
    quiet = config_of(20, 4) | {"log_every": 10}
    assert named(fork_at(Folder(long), 16), quiet) != first
    assert named(fork_at(Folder(of_other_code(moved)), 16), config) != first


def test_a_crash_leaves_a_whole_branch_or_none(long, tmp_path, monkeypatch):
    config = config_of(20, 4)
    parts, folder = assemble(config), tmp_path / "branch"
    names = ("copytree", "write_bytes", "write_json", "rename")
    places = (shutil, trunk, trunk, os)
    for name, place in zip(names, places, strict=True):
        with monkeypatch.context() as patch:

            def crash(*_, **__):
                raise KeyboardInterrupt

            patch.setattr(place, name, crash)
            with pytest.raises(KeyboardInterrupt):
                branch(Folder(long), 16, parts, folder)
        assert not folder.exists()
    branch(Folder(long), 16, parts, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["branch"]
    assert [line["step"] for line in read_metrics(folder)] == [5, 10, 15]
    before = (folder / "trunk.json").stat().st_mtime_ns
    branch(Folder(long), 16, parts, folder)
    assert (folder / "trunk.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(num_steps=16), "num_steps=16 must be more than --step=16"),
        (dict(model__width=32), r"has shape \(.*16.*\) in the checkpoint of step 16"),
        (dict(optim__rule__name="lion"), "/nu/.* is in the checkpoint of step 16 and"),
        (dict(batch_size=16), "would have read .* tokens, and the trunk has read"),
    ],
)
def test_what_cannot_go_on_is_refused_before_anything_is_made(
    long, tmp_path, keys, message
):
    parts = assemble(config_of(**dict(num_steps=20, decay_steps=4) | keys))
    with pytest.raises(ValueError, match=message):
        branch(Folder(long), 16, parts, tmp_path / "branch")
    assert not [*tmp_path.iterdir()]


def test_a_damaged_checkpoint_makes_no_branch(long, tmp_path):
    copy = shutil.copytree(long, tmp_path / "copy")
    step = copy / "checkpoints" / "16"
    largest = max(step.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(ValueError, match="--step=16: the checkpoint is damaged"):
        branch(Folder(copy), 16, assemble(config_of(20, 4)), tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_a_drift_since_the_trunk_is_refused_and_can_be_allowed(long, tmp_path):
    copy = of_other_code(shutil.copytree(long, tmp_path / "copy"))
    config = config_of(20, 4)
    branch(Folder(copy), 16, assemble(config), tmp_path / "branch")
    with pytest.raises(ValueError, match=r"code=.* differs from the run's code=other"):
        run.train(config, str(tmp_path / "branch"))
    run.train(config, str(tmp_path / "branch"), allow_drift=["code"])


def test_the_command_branches_trains_and_goes_on(long, tmp_path, capsys):
    where = [f"--trunk={long}", f"--workdir={tmp_path}"]
    keys = ["--config.num_steps=12", "--config.optim.schedule.decay_steps=3"]
    words = ["branch", *where, "--step=8", *keys]
    assert launch.main(words) == 0
    (folder,) = tmp_path.iterdir()
    assert f"Branch: {folder}\n" in capsys.readouterr().out
    assert read_json(folder / "summary.json")["steps"] == 12
    lines = lines_of(folder)
    assert launch.main(words) == 0
    assert lines_of(folder) == lines
    for step, said in (
        ("9", "--step=9: .* has no checkpoint of it; the nearest is 8"),
        ("many", "--step='many' must be a step"),
    ):
        assert launch.main(["branch", *where, f"--step={step}", *keys]) == 2
        assert launch.re.search(said, capsys.readouterr().err)
    assert launch.main(["branch", "--trunk=no", "--workdir=a", "--step=1"]) == 2
    assert "--trunk='no' holds no run" in capsys.readouterr().err


def test_branches_of_a_sweep_are_trained_in_a_pack_and_are_the_runs_of_their_points(
    tmp_path,
):
    config = config_of(16, 4, **PLAIN)
    space = dict(axes={"optim.schedule.peak": [0.01, 0.02]}, seeds=2)
    found = sweep.run(config, space, tmp_path, search=Search())
    cooled = {"num_steps": 12, "optim.schedule.decay_steps": 4}
    grown = grow(config, tmp_path, found, [{"step": 8} | cooled], [])
    assert len(grown) == 4
    for one in grown:
        assert one.branch.state == outcomes.DONE
        assert one.branch.steps == 12
        assert one.branch.point.seed == one.trunk.point.seed
    alone = tmp_path / "alone"
    straight = space | {"axes": space["axes"] | {k: [v] for k, v in cooled.items()}}
    straight = sweep.run(config, straight, alone, search=Search())
    known = {x.point.id: x for x in straight}
    for one in grown:
        assert_same_run(one.branch.folder, known[one.branch.point.id].folder)
    folders = [x.folder for one in grown for x in (one.trunk, one.branch)]
    assert total(folders).steps == 4 * (16 + 4)
    assert (tmp_path / forks.FOLDER).is_dir()
    again = grow(config, tmp_path, found, [{"step": 8} | cooled], [])
    assert [x.branch for x in again] == [x.branch for x in grown]
