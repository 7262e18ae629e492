"""The state as a checkpoint has it: leaves by path, whatever classes hold them here."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from core.trees import name_of

Leaves = dict[str, Any]


def leaves_of(tree: PyTree) -> Leaves:
    """Leaves by path.

    >>> leaves_of({"params": {"scale": 1.0}, "moments": (2.0,)})
    {'/moments/0': 2.0, '/params/scale': 1.0}
    """
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {name_of(path): leaf for path, leaf in pairs}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Dicts within dicts, which any program can read.

    >>> nested({"/params/scale": 1.0, "/moments/0": 2.0})
    {'params': {'scale': 1.0}, 'moments': {'0': 2.0}}
    """
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *folders, last = name.strip("/").split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = leaf
    return tree


def like(tree: PyTree, found: PyTree) -> PyTree:
    """The leaves of `found`, which is nested dicts, in the structure of `tree`."""
    leaves = leaves_of(found)
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[name_of(path)], tree)


def describe(leaves: Leaves) -> dict[str, dict[str, Any]]:
    """Shape and dtype of every leaf, as JSON has them."""
    return {
        name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for name, leaf in leaves.items()
    }


def finite(leaves: Leaves) -> dict[str, jax.Array]:
    """Whether each leaf that could be otherwise is finite, computed on the device."""
    floats = {k: x for k, x in leaves.items() if jnp.issubdtype(x.dtype, jnp.inexact)}
    return _finite(floats)


def targets(tree: PyTree, stored: Mapping[str, Any], step: int) -> Leaves:
    """The leaves of an abstract tree, if those stored fit into them.

    A float may become a wider one, and nothing else may change.

    Raises:
      ValueError: names the first leaf that does not fit.
    """
    wanted = leaves_of(tree)
    for names, others, where in (
        (wanted, stored, f"is not in the checkpoint of step {step}"),
        (stored, wanted, f"is in the checkpoint of step {step} and not in this run"),
    ):
        missing = [name for name in names if name not in others]
        if missing:
            more = f" ({len(missing) - 1} more are so)" if len(missing) > 1 else ""
            raise ValueError(f"{missing[0]} {where}{more}.")
    for name, leaf in wanted.items():
        shape, dtype = tuple(stored[name]["shape"]), jnp.dtype(stored[name]["dtype"])
        if shape != leaf.shape:
            raise ValueError(
                f"{name} has shape {shape} in the checkpoint of step {step} "
                f"and {leaf.shape} here."
            )
        if not _holds(leaf.dtype, dtype):
            raise ValueError(
                f"{name} is {dtype} in the checkpoint of step {step} and {leaf.dtype} "
                "here, which cannot hold it."
            )
        if leaf.sharding is None:
            raise ValueError(f"{name} has no sharding to be restored to.")
    return wanted


def _holds(wanted: np.dtype, stored: np.dtype) -> bool:
    floats = all(jnp.issubdtype(x, jnp.floating) for x in (wanted, stored))
    return wanted == stored or (floats and jnp.promote_types(wanted, stored) == wanted)


@jax.jit
def _finite(leaves: Leaves) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()}
