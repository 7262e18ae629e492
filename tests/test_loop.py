"""train/loop.py: the host runs ahead of the devices, and not too far."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from core.mean import Mean
from train.leaves import finite
from train.loop import IN_FLIGHT, Pace, fit, total
from train.step import TrainState

MESH = Mesh(np.array(jax.devices()), "data")
# More than XLA's client for CPUs can have in flight (LOG.md): it would abort.
MANY = 60


@jax.jit
def slow(x):
    """`x` again and its sum over all devices, some milliseconds late."""

    def body(_, x):
        y = x @ jnp.eye(x.shape[1])
        return y / (1 + 0 * y.sum())

    x = jax.lax.fori_loop(0, 30, body, x)
    return x, {"loss": Mean.single(x.sum())}


def spread():
    return jax.device_put(
        np.ones((64, 512), np.float32), NamedSharding(MESH, PartitionSpec("data"))
    )


def test_the_host_waits_for_the_program_so_many_before(monkeypatch):
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    pace = Pace()
    for number in range(IN_FLIGHT + 3):
        pace(number)
    assert waited == [0, 1, 2]


def test_many_slow_steps_on_many_devices_end():
    def step(state, batch):
        x, scores = slow(state.params)
        return state.replace(step=state.step + batch, params=x), scores

    blank = {field.name: None for field in dataclasses.fields(TrainState)}
    start = TrainState(**blank | {"step": np.int32(0), "params": spread()})
    numbers = range(1, MANY + 1)
    assert fit(start, step, itertools.repeat(1), numbers=numbers).step == MANY


def test_the_total_of_many_batches_is_theirs():
    def batches():
        x = spread()
        for _ in range(MANY):
            x, scores = slow(x)
            yield scores

    sums = total(batches())
    assert float(sums["loss"].total) == MANY * 64 * 512
    assert float(sums["loss"].weight) == MANY
    assert total([]) == {}


def test_the_leaves_of_a_large_state_are_asked_about_at_once():
    rows = spread()
    late = slow(rows)[0]
    leaves = {str(number): late + number for number in range(MANY)}
    leaves |= {"nan": late * np.nan, "inf": late / 0, "whole": np.arange(3)}
    found = jax.device_get(finite(leaves))
    assert {name for name, ok in found.items() if not ok} == {"nan", "inf"}
    assert len(found) == MANY + 2
