"""Which axes every parameter has: the one table of leaf names.

Sharding, decay, muP, per-layer norms, pruning and weight conversion read it. Letters
are those of STYLE.md.
"""

import jax
from jaxtyping import PyTree

from core.trees import assign, name_of

AXES = {
    r"/embed$": "VD",
    r"/(query|key|value)$": "DHK",
    r"attention/out$": "HKD",
    r"/mlp/in$": "DF",
    r"/mlp/out$": "FD",
    r"/(scale|bias)$": "D",
}

STACK = "/layers/"  # the name of a scanned stack; its leaves have a leading `N`


def axes_of(params: PyTree) -> PyTree:
    """Tree -> tree of letters, as long as each leaf's shape.

    Raises:
      ValueError: a leaf without a rule, or of another rank than its rule says.

    >>> import numpy as np
    >>> axes_of({"layers": {"mlp": {"in": np.zeros((2, 8, 32))}}})
    {'layers': {'mlp': {'in': 'NDF'}}}
    """
    letters = assign(AXES)(params)

    def stacked(path, leaf, axes):
        axes = ("N" if STACK in name_of(path) else "") + axes
        if len(axes) != leaf.ndim:
            raise ValueError(
                f"{name_of(path)} has shape {leaf.shape}, not axes {axes}."
            )
        return axes

    return jax.tree_util.tree_map_with_path(stacked, params, letters)
