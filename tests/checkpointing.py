"""A tiny state and folders of its checkpoints, for the tests of them."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from train.checkpoints import Checkpoints

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


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
