"""How deep each parameter lies below the output, and rates that fall with it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from core.axes import STACK
from core.trees import name_of
from core.types import Number

# Where tokens enter; an entrance has a norm, too. A tied output is an embedding.
BOTTOM = re.compile(r"[/_](embed|place|distance)$|entrance/")


def depths_of(params: PyTree) -> PyTree:
    """Tree -> the depth of each leaf: 0 for the head, N + 1 where tokens enter.

    Between them are N layers, those of an encoder below those of its decoder; of a
    scanned stack it is a vector, one depth a layer. The last norm of a stack goes with
    what is above it.

    >>> layers = {"mlp": {"in": np.zeros((2, 8, 32))}}
    >>> depths_of({"embed": np.zeros((5, 8)), "head": np.zeros(8), "layers": layers})
    {'embed': 3, 'head': 0, 'layers': {'mlp': {'in': array([2, 1])}}}
    """
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        stack, found, _ = name_of(path).partition(STACK)
        if found:
            sizes[stack] = leaf.shape[0]
    above, below = {}, 0  # each stack: the layers from its last one down
    for stack in sorted(sizes, key=lambda stack: stack.endswith("decoder")):
        below += sizes[stack]
        above[stack] = below

    def depth(path, leaf):
        name = name_of(path)
        stack, found, _ = name.partition(STACK)
        if found:
            height = above[stack] - np.arange(leaf.shape[0])[::-1]
            return below + 1 - height
        if BOTTOM.search(name):
            return below + 1
        own = [stack for stack in above if stack and name.startswith(f"{stack}/")]
        return below - above[own[0]] if own else 0

    return jax.tree_util.tree_map_with_path(depth, params)


def scale_layers(share: Number) -> optax.GradientTransformation:
    """u <- share^depth u, with the depth of each layer.

    As the decay is in u by then, it is the tensor's rate that falls. The last layer
    has the depth 1, the head above it 0. `share` lies in (0, 1].
    Source: Howard & Ruder 2018, https://arxiv.org/abs/1801.06146, section 3.2 (share
    1 / 2.6); depths as in Bao et al. 2021, https://arxiv.org/abs/2106.08254.
    """

    def scale(updates, params):
        del params

        def one(u, depth):
            if np.ndim(depth):  # one for each layer of a scanned stack
                depth = depth.reshape(-1, *(1,) * (u.ndim - 1))
            return jnp.asarray(share) ** depth * u

        return jax.tree.map(one, updates, depths_of(updates))

    return optax.stateless(scale)
