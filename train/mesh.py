"""The device mesh, and who holds what on it: a table outside the models."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from core.trees import assign

DATA = "data"

# Parameters and optimizer state, by path. More axes of the mesh are more lines here.
PARTITION = assign({r".*": PartitionSpec()})


def devices() -> list:
    """All of them, of all processes."""
    return jax.devices()


def make_mesh() -> Mesh:
    """All devices along `data`."""
    found, auto = devices(), (AxisType.Auto,)
    return jax.make_mesh((len(found),), (DATA,), axis_types=auto, devices=found)


def everywhere(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
    """Split by rows over `data`."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def shardings(mesh: Mesh, state: PyTree) -> PyTree:
    """Of every leaf of a state, what PARTITION says."""
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        PARTITION(state),
        is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
    )


def place_rows(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This host's share of a batch as part of the global one."""
    return {
        name: jax.make_array_from_process_local_data(rows(mesh), array)
        for name, array in batch.items()
    }
