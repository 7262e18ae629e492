"""Saving, restoring and keeping: train/{checkpoints,shelf,leaves}.py."""

import random
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from core.exits import Stop
from core.registry import Block, check
from tests.checkpointing import (
    FACTS,
    TARGET,
    State,
    abstract,
    filled,
    flip,
    mesh_of,
    opened,
    reading,
    same,
    state_of,
)
from train import checkpoints as module
from train import manifest, shelf
from train.checkpoints import CHECKPOINT, load_params


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder with steps 1 and 2, to be copied."""
    return filled(tmp_path_factory.mktemp("run") / "checkpoints", [1, 2])


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
    split = NamedSharding(mesh_of(4), PartitionSpec("data"))
    big = jax.device_put(jnp.arange(2_000_000, dtype=jnp.float32), split)
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with opened(tmp_path) as checkpoints:
        for step in (1, 2):
            state = {"out": big + step}
            checkpoints.save(step, state, {}, FACTS)
            for _ in range(3):
                state["out"] = overwrite(state["out"])
            jax.block_until_ready(state)
        target = abstract({"out": big})
        for step in (1, 2):
            _, found, _ = checkpoints.restore(target, step)
            assert np.array_equal(found["out"], big + step)
            # What was restored may be donated too, and is not on the disk.
            jax.block_until_ready(overwrite(found["out"]))
        assert np.array_equal(checkpoints.restore(target, 2)[1]["out"], big + 2)


def test_a_step_asked_for_by_number_is_that_step_or_none(pair, tmp_path):
    assert reading(pair).restore(TARGET, 1)[0] == 1
    with pytest.raises(FileNotFoundError, match=r"step=7 is not among .*\[1, 2\]"):
        reading(pair).restore(TARGET, 7)
    shutil.copytree(pair, tmp_path / "run")
    flip(tmp_path / "run/2/state/_METADATA", random.Random(0))
    with pytest.raises(Stop, match=r"step 2 is damaged"):
        reading(tmp_path / "run").restore(TARGET, 2)


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
        checkpoints.save(5, state_of(5), {"bleu": 30.0}, FACTS)
        checkpoints.wait()
        assert checkpoints.best_step == 5  # of equals the newer one


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
