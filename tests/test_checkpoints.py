"""Checkpoints, whole or not listed: train/{checkpoints,shelf,manifest,leaves}.py."""

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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from core.exits import STORAGE, Stop
from core.registry import Block, check
from train import checkpoints as module
from train import manifest, shelf
from train.checkpoints import CHECKPOINT, Checkpoints, load_params

FACTS = {"seed": 0, "code": "abc"}


class State(NamedTuple):
    """Two leaves, one of them split over the devices."""

    step: jax.Array
    params: dict


def mesh_of(num_devices):
    devices = jax.devices()[:num_devices]
    return jax.make_mesh(
        (num_devices,), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )


def state_of(step, mesh=None):
    values = np.random.default_rng(step).normal(size=(8, 4)).astype(np.float32)
    mesh = mesh or mesh_of(4)
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    params = {"out": jax.device_put(values, split)}
    return State(jax.device_put(np.int32(step), whole), params)


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


TARGET = abstract(state_of(0))


def same(one, two):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def opened(folder, **options):
    return Checkpoints(folder, **(dict(every_steps=1) | options))


def reading(folder):
    return opened(folder, read_only=True)


def filled(folder, steps, scores=(), **options):
    scores = dict(zip(steps, scores, strict=False))
    with opened(folder, **options) as checkpoints:
        for step in steps:
            found = {"val_loss": scores[step]} if step in scores else {}
            checkpoints.save(step, state_of(step), found, FACTS)
    return folder


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


def test_what_was_saved_comes_back_with_its_facts(pair):
    step, state, facts = reading(pair).restore(TARGET)
    assert step == 2
    assert same(state, state_of(2))
    assert state.params["out"].sharding == TARGET.params["out"].sharding
    assert facts["fingerprint"] == FACTS
    assert facts["not_finite"] == []
    assert facts["leaves"] == {
        "/step": {"shape": [], "dtype": "int32"},
        "/params/out": {"shape": [8, 4], "dtype": "float32"},
    }


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_state_of_four_devices_goes_on_with_fewer(pair, num_devices):
    target = abstract(state_of(0, mesh_of(num_devices)))
    _, state, _ = reading(pair).restore(target)
    assert same(state, state_of(2))
    assert state.params["out"].sharding.num_devices == num_devices


def test_an_optimizer_state_of_every_kind_of_node_comes_back(tmp_path):
    params = {"out": jnp.ones(3, jnp.bfloat16), "bias": jnp.array([jnp.nan, 1.0])}
    tx = optax.chain(optax.clip(1.0), optax.adam(1e-3), optax.trace(0.9))
    state = State(jnp.int32(1), (params, tx.init(params), [None, (jnp.arange(2),)]))
    with opened(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, FACTS)
    place = SingleDeviceSharding(jax.devices()[1])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state
    )
    _, found, facts = reading(tmp_path).restore(target)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    np.testing.assert_equal(jax.device_get(found), jax.device_get(state))
    assert facts["not_finite"] == ["/params/0/bias"]


def test_the_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    big = jnp.arange(2_000_000, dtype=jnp.float32)
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with opened(tmp_path) as checkpoints:
        for step in (1, 2):
            state = {"out": big + step}
            checkpoints.save(step, state, {}, FACTS)
            for _ in range(3):
                state["out"] = overwrite(state["out"])
            jax.block_until_ready(state)
        place = SingleDeviceSharding(jax.devices()[0])
        target = {"out": jax.ShapeDtypeStruct(big.shape, big.dtype, sharding=place)}
        for step in (1, 2):
            _, found, _ = checkpoints.restore(target, step)
            assert np.array_equal(found["out"], big + step)
            # What was restored may be donated too, and is not on the disk.
            jax.block_until_ready(overwrite(found["out"]))
        assert np.array_equal(checkpoints.restore(target, 2)[1]["out"], big + 2)


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


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


def test_a_step_asked_for_by_number_is_that_step_or_none(pair, tmp_path):
    assert reading(pair).restore(TARGET, 1)[0] == 1
    with pytest.raises(FileNotFoundError, match=r"step=7 is not among .*\[1, 2\]"):
        reading(pair).restore(TARGET, 7)
    shutil.copytree(pair, tmp_path / "run")
    flip(tmp_path / "run/2/state/_METADATA", random.Random(0))
    with pytest.raises(Stop, match=r"step 2 is damaged"):
        reading(tmp_path / "run").restore(TARGET, 2)


def test_a_damaged_step_is_written_again_and_then_whole(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "run")
    flip(tmp_path / "run/2/state/_METADATA", random.Random(0))
    with opened(tmp_path / "run") as checkpoints:
        assert checkpoints.restore(TARGET)[0] == 1
        checkpoints.save(2, state_of(2), {}, FACTS)
        checkpoints.wait()
        assert checkpoints.durable_step == 2
    assert same(reading(tmp_path / "run").restore(TARGET)[1], state_of(2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s._replace(params={}), "/params/out is in .*step 2 and not in this"),
        (lambda s: s._replace(params=s.params | {"new": s.step}), "/params/new is not"),
        (
            lambda s: reshaped(s, (4, 8), jnp.float32),
            r"out has shape \(8, 4\) .*\(4, 8\)",
        ),
        (lambda s: reshaped(s, (8, 4), jnp.bfloat16), "out is float32 .*bfloat16 here"),
        (lambda s: reshaped(s, (8, 4), jnp.int32), "out is float32 .*int32 here"),
    ],
    ids=["missing", "extra", "shape", "narrower", "kind"],
)
def test_another_tree_is_refused_by_the_name_of_a_leaf(pair, change, words):
    with pytest.raises(ValueError, match=words):
        reading(pair).restore(change(TARGET))


def reshaped(state, shape, dtype):
    sharding = state.params["out"].sharding
    leaf = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    return state._replace(params={"out": leaf})


def test_a_float_may_become_wider(tmp_path):
    place = SingleDeviceSharding(jax.devices()[0])
    with opened(tmp_path) as checkpoints:
        checkpoints.save(1, {"out": jnp.full(3, 1.5, jnp.bfloat16)}, {}, FACTS)
    target = {"out": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=place)}
    found = reading(tmp_path).restore(target)[1]["out"]
    assert found.dtype == jnp.float32
    assert found.tolist() == [1.5] * 3


def test_the_newest_and_the_best_stay(tmp_path):
    filled(tmp_path, [1, 2, 3, 4, 5], [3.0, 1.0, float("nan"), 2.0, 2.0], keep=2)
    with reading(tmp_path) as checkpoints:
        assert checkpoints.steps == [2, 4, 5]
        assert (checkpoints.best_step, checkpoints.durable_step) == (2, 5)
        assert checkpoints.restore(TARGET, "best")[0] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"2", "4", "5", shelf.TRASH}
    assert not any((tmp_path / shelf.TRASH).iterdir())


def test_more_bleu_is_better_and_more_loss_is_not():
    assert [
        shelf.more_is_better(x) for x in ("val_loss", "loss", "bleu", "test_chrf")
    ] == [
        False,
        False,
        True,
        True,
    ]
    block = Block(CHECKPOINT, given=("folder", "read_only"))
    with pytest.raises(ValueError, match=r"best='bleuu' .*Did you mean 'bleu'"):
        check(dict(every_steps=5, keep=2, best="bleuu"), block, "checkpoint")
    with pytest.raises(ValueError, match=r"keep=1 must lie in \[2, inf\)"):
        check(dict(every_steps=5, keep=1, best="bleu"), block, "checkpoint")


def test_the_best_by_a_score_that_grows_is_the_largest(tmp_path):
    with opened(tmp_path, best="bleu") as checkpoints:
        for step, bleu in ((1, 20.0), (2, 30.0), (3, 10.0), (4, 5.0)):
            checkpoints.save(step, state_of(step), {"bleu": bleu}, FACTS)
        checkpoints.wait()
        assert checkpoints.steps == [2, 3, 4]


def test_a_damaged_best_is_named_and_the_next_best_is_taken(tmp_path, warned):
    filled(tmp_path, [1, 2, 3], [1.0, 2.0, 3.0], keep=3)
    flip(tmp_path / "1/state/_METADATA", random.Random(0))
    assert reading(tmp_path).restore(TARGET, "best")[0] == 2
    os.truncate(tmp_path / "2/manifest.json", 9)
    assert reading(tmp_path).restore(TARGET, "best")[0] == 3
    assert len(warned) == 2
    assert "step 2 is damaged (manifest.json" in warned[1]


def test_without_scores_there_is_no_best(pair):
    assert reading(pair).best_step is None
    with pytest.raises(FileNotFoundError, match=r"has the score 'val_loss'.*'latest'"):
        reading(pair).restore(TARGET, "best")
    with pytest.raises(ValueError, match=r"step='lates' .*Did you mean 'latest'"):
        reading(pair).restore(TARGET, "lates")


def test_parameters_alone_are_taken_from_another_run(pair):
    found = load_params(pair.parent, "latest", TARGET.params)
    assert same(found, state_of(2).params)
    with pytest.raises(ValueError, match=r"/params/other is not in"):
        load_params(pair.parent, "latest", {"other": TARGET.params["out"]})
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint"):
        load_params(pair.parent / "nowhere", "latest", TARGET.params)


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


def test_a_save_in_flight_is_not_durable_and_a_second_one_waits(tmp_path, monkeypatch):
    gate, seal = threading.Event(), manifest.seal

    def held(*args, **facts):
        gate.wait(30)
        return seal(*args, **facts)

    monkeypatch.setattr(module.manifest, "seal", held)
    with opened(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {}, FACTS)
        assert checkpoints.durable_step is None
        threading.Timer(0.2, gate.set).start()
        checkpoints.save(2, state_of(2), {}, FACTS)
        assert 1 in checkpoints.steps
        checkpoints.wait()
        assert checkpoints.durable_step == 2
        assert [checkpoints.due(step) for step in (1, 2)] == [True, True]


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
