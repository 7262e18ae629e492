"""Damage, kills and full disks: train/{checkpoints,shelf,manifest}.py."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from jax.sharding import SingleDeviceSharding

from core.exits import STORAGE, Stop
from tests.checkpointing import (
    FACTS,
    TARGET,
    filled,
    flip,
    opened,
    reading,
    same,
    state_of,
)
from train import checkpoints as module
from train import manifest, shelf


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder with steps 1 and 2, to be copied."""
    return filled(tmp_path_factory.mktemp("run") / "checkpoints", [1, 2])


@pytest.fixture
def warned(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *of: lines.append(text % of))
    return lines


def listing(folder):
    """Every path with its time of change."""
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


DAMAGES = {
    "flipped": flip,
    "flipped again": flip,
    "cut": lambda path, rng: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path, rng: os.truncate(path, 0),
    "gone": lambda path, rng: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_to_any_file_is_restored_and_the_step_before_is(
    pair, tmp_path, warned, damage
):
    rng = random.Random(0)
    names = [path.relative_to(pair) for path in (pair / "2").rglob("*")]
    names = [name for name in names if (pair / name).is_file()]
    assert len(names) > 8
    for number, name in enumerate(names):
        if (pair / name).stat().st_size == 0 and damage != "gone":
            continue
        folder = tmp_path / str(number)
        shutil.copytree(pair, folder)
        DAMAGES[damage](folder / name, rng)
        warned.clear()
        with opened(folder) as checkpoints:
            step, state, _ = checkpoints.restore(TARGET)
            assert step == checkpoints.durable_step == 1
        assert same(state, state_of(1))
        (line,) = warned
        assert "step 2" in line
        assert name.relative_to("2").as_posix() in line
        assert "\n" not in line


def test_a_step_with_a_file_cut_short_is_not_even_listed(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    os.truncate(tmp_path / "run/2/state/_METADATA", 9)
    assert reading(tmp_path / "run").durable_step == 1


def test_a_file_of_another_step_is_no_file_of_this_one(pair, tmp_path, warned):
    shutil.copytree(pair, tmp_path / "run")
    one, two = (tmp_path / "run" / step / "state/_METADATA" for step in "12")
    two.write_bytes(one.read_bytes().replace(b"params", b"parsma"))
    assert reading(tmp_path / "run").restore(TARGET)[0] == 1
    assert len(warned) == 1


def test_where_all_are_damaged_the_run_ends_and_does_not_begin_anew(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    for step in "12":
        (tmp_path / "run" / step / "state/_METADATA").unlink()
    with opened(tmp_path / "run") as checkpoints:
        assert checkpoints.started
        assert checkpoints.durable_step is None
        with pytest.raises(Stop, match=r"step 2 .*step 1 .*nothing to go on with") as e:
            checkpoints.restore(TARGET)
    assert e.value.code == STORAGE


def test_a_damaged_step_is_written_again_and_then_whole(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    flip(tmp_path / "run/2/state/_METADATA", random.Random(0))
    with opened(tmp_path / "run") as checkpoints:
        assert checkpoints.restore(TARGET)[0] == 1
        checkpoints.save(2, state_of(2), {}, FACTS)
        checkpoints.wait()
        assert checkpoints.durable_step == 2
    assert same(reading(tmp_path / "run").restore(TARGET)[1], state_of(2))


def test_a_damaged_best_is_named_and_the_next_best_is_taken(tmp_path, warned):
    filled(tmp_path, [1, 2, 3], [1.0, 2.0, 3.0], keep=3)
    flip(tmp_path / "1/state/_METADATA", random.Random(0))
    assert reading(tmp_path).restore(TARGET, "best")[0] == 2
    os.truncate(tmp_path / "2/manifest.json", 9)
    assert reading(tmp_path).restore(TARGET, "best")[0] == 3
    assert len(warned) == 2
    assert "step 2 is damaged (manifest.json" in warned[1]


def leftovers(folder):
    """What a killed run leaves: temporary, unsealed and half deleted folders."""
    shutil.copytree(folder / "2", folder / f"3{shelf.TEMPORARY}")
    shutil.copytree(folder / "2", folder / "3")
    (folder / "3" / manifest.NAME).unlink()
    shutil.copytree(folder / "1", folder / shelf.TRASH / "0-1")
    (folder / "notes.txt").write_text("mine")
    (folder / "old").mkdir()


def test_opening_to_train_deletes_leftovers_and_nothing_else(pair, tmp_path, warned):
    shutil.copytree(pair, tmp_path / "run")
    leftovers(tmp_path / "run")
    with opened(tmp_path / "run") as checkpoints:
        assert checkpoints.steps == [1, 2]
    names = {path.name for path in (tmp_path / "run").iterdir()} - {shelf.TRASH}
    assert names == {"1", "2", "notes.txt", "old"}
    assert len(warned) == 1


def test_opening_to_read_touches_nothing(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    leftovers(tmp_path / "run")
    flip(tmp_path / "run/2/state/_METADATA", random.Random(0))
    before = listing(tmp_path / "run")
    with reading(tmp_path / "run") as checkpoints:
        assert checkpoints.restore(TARGET)[0] == 1
        assert checkpoints.steps == [1]
    assert listing(tmp_path / "run") == before


@pytest.mark.parametrize("point", ["flush", "rename", "rmtree"])
def test_killed_while_it_deletes_it_lists_no_half_step(
    pair, tmp_path, monkeypatch, point
):
    shutil.copytree(pair, tmp_path / "run")

    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    place = {"flush": manifest, "rename": os, "rmtree": shelf.shutil}[point]
    with monkeypatch.context() as patch:
        patch.setattr(place, point, kill)
        with pytest.raises(Killed):
            shelf.Shelf(tmp_path / "run", "loss").drop(1)
    assert reading(tmp_path / "run").steps == [2]
    with opened(tmp_path / "run") as checkpoints:
        assert checkpoints.restore(TARGET)[0] == 2
    assert not (tmp_path / "run" / "1").exists()
    assert not list((tmp_path / "run").glob(f"{shelf.TRASH}/*"))


@pytest.mark.parametrize("place", ["os.replace", "os.fsync", "json.dump"])
def test_a_save_that_cannot_be_sealed_is_not_listed_and_is_told(
    pair, tmp_path, monkeypatch, place
):
    shutil.copytree(pair, tmp_path / "run")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    owner, name = place.split(".")
    checkpoints = opened(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(getattr(manifest, owner), name, fail)
        checkpoints.save(3, state_of(3), {}, FACTS)
        checkpoints._thread.join()
        assert checkpoints.durable_step == 2
        with pytest.raises(Stop, match=r"step 3 .*no space left .*Kept: step 2\.") as e:
            checkpoints.save(4, state_of(4), {}, FACTS)
    assert e.value.code == STORAGE
    assert len(str(e.value)) <= 200
    assert not (tmp_path / "run" / "3").exists()  # its space is given back
    with pytest.raises(Stop, match=r"step 3 is not durable"):
        checkpoints.close()
    with checkpoints:  # and a run that goes on may save again
        checkpoints.save(4, state_of(4), {}, FACTS)
    assert reading(tmp_path / "run").steps == [2, 4]


def test_a_full_disk_is_told_and_leaves_what_there_was(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = {"out": jax.random.normal(jax.random.key(0), (100_000,))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        checkpoints = opened(tmp_path / "run")
        checkpoints.save(3, state, {}, FACTS)
        with pytest.raises(Stop, match=r"step 3 .*no space left .*Kept: step 2\.") as e:
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert e.value.code == STORAGE
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"1", "2"}
    assert same(reading(tmp_path / "run").restore(TARGET)[1], state_of(2))


def test_the_end_of_the_context_raises_what_went_wrong_but_hides_no_error(
    tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise RuntimeError("a\nb")

    def run(error):
        with opened(tmp_path) as checkpoints:
            checkpoints.save(1, state_of(1), {}, FACTS)
            if error is not None:
                raise error

    monkeypatch.setattr(module.manifest, "seal", fail)
    with pytest.raises(Stop, match=r"RuntimeError: a b\. Kept: no step\."):
        run(None)
    with pytest.raises(KeyError):
        run(KeyError())


def test_a_disk_too_small_for_the_plan_ends_the_run_before_it_is_full(
    pair, tmp_path, monkeypatch
):
    shutil.copytree(pair, tmp_path / "run")
    used = sum(path.stat().st_size for path in pair.rglob("*") if path.is_file())
    state = {"out": jnp.zeros(1000)}  # 4,000 bytes, and keep + 2 = 5 of them

    def room(free):
        usage = types.SimpleNamespace(free=free)
        monkeypatch.setattr(shelf.shutil, "disk_usage", lambda _: usage)

    with opened(tmp_path / "run", keep=3) as checkpoints:
        room(20_000 - used)
        checkpoints.preflight(state)
        room(20_000 - used - 1)
        with pytest.raises(Stop, match=r"checkpoint\.keep=3 needs 0 MB") as e:
            checkpoints.preflight(state)
    assert e.value.code == STORAGE


def test_every_file_is_flushed_before_the_manifest_is_in_place(
    pair, tmp_path, monkeypatch
):
    shutil.copytree(pair, tmp_path / "run")
    flushed, replace = [], os.replace
    folder = tmp_path / "run" / "2"
    (folder / manifest.NAME).unlink()

    def check_then_replace(old, new):
        paths = {os.path.realpath(path) for path in [folder, *folder.rglob("*")]}
        assert paths <= set(flushed)
        replace(old, new)

    def note(number):
        flushed.append(os.readlink(f"/proc/self/fd/{number}"))

    monkeypatch.setattr(manifest.os, "fsync", note)
    monkeypatch.setattr(manifest.os, "replace", check_then_replace)
    manifest.seal(folder, step=2)
    assert str(folder.parent) in flushed
    assert flushed[-1] == str(folder)


SAVING = """
import sys
import jax, jax.numpy as jnp, numpy as np
from train.checkpoints import Checkpoints
folder = sys.argv[1]
make = jax.jit(lambda step: jnp.sin(jnp.arange(60_000) * step.astype(float)))
with Checkpoints(folder, every_steps=1) as checkpoints:
    first = (checkpoints.durable_step or 0) + 1
    for step in range(first, first + 1000):
        state = {"params": make(jnp.int32(step)), "step": jnp.int32(step)}
        checkpoints.save(step, state, {"val_loss": abs(step % 7 - 3)}, {})
        print(checkpoints.durable_step, flush=True)
"""


def test_killed_at_any_moment_it_lists_only_what_is_whole(tmp_path):
    rng = random.Random(0)
    make = jax.jit(lambda step: jnp.sin(jnp.arange(60_000) * step.astype(float)))
    place = SingleDeviceSharding(jax.devices()[0])
    target = {
        "params": jax.ShapeDtypeStruct((60_000,), jnp.float32, sharding=place),
        "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=place),
    }
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVING, str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(rng.randrange(5, 12)):
            line = process.stdout.readline()
        threading.Event().wait(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        told = [int(x) for x in process.communicate()[0].split()] or [int(line)]
        assert process.returncode == -signal.SIGKILL
        with reading(tmp_path) as checkpoints:
            assert checkpoints.durable_step >= told[-1]
            assert 2 <= len(checkpoints.steps) <= 4
            for step in checkpoints.steps:
                _, state, _ = checkpoints.restore(target, step)
                assert same(
                    state, {"params": make(jnp.int32(step)), "step": np.int32(step)}
                )


def test_a_manifest_that_was_edited_is_no_manifest(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    path = tmp_path / "run/2" / manifest.NAME
    facts = json.loads(path.read_text())
    facts["scores"] = {"val_loss": 0.0}
    path.write_text(json.dumps(facts))
    with pytest.raises(manifest.Damaged, match=r"manifest\.json: its digest differs"):
        manifest.read(path.parent)
    path.write_text("[" * 100_000)
    with pytest.raises(manifest.Damaged, match=r"manifest\.json: not readable"):
        manifest.read(path.parent)
