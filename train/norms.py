"""Norms of gradient, update and weights, by groups of parameters."""

from typing import Literal

import jax
from jaxtyping import Array, Float, PyTree

from core.axes import STACK
from core.mean import Mean
from core.trees import assign, name_of
from train.guard import safe_norm

Norms = Literal["none", "group", "layer"]

# A new leaf is decided on: each matches one line.
GROUPS = {
    r"/(embed|type_embed|place)$": "embed",
    r"attention/(query|key|value|out)(_bias)?$|/distance$": "attention",
    r"/(mlp|experts)/": "mlp",
    r"/(scale|bias)$": "norm",
    r"/(unembed|head|head_bias|readout_bias)$": "head",
}


def scores(
    grads: PyTree, updates: PyTree, params: PyTree, norms: Norms
) -> dict[str, Mean]:
    """`grad_norm/GROUP`, `update_norm/GROUP`, and `update_share/GROUP`, |u| / |w|.

    The gradient is the batch's, before anything is done to it; the update is what the
    chain gave, to a step that is skipped, too. w are the weights before it: of weights
    that are all zero the share is inf. By "layer", a group of a scanned stack has
    STACK/NUMBER/GROUP beside it.

    Costs: every step reads the three trees once more, twice for safety of squares.
    """
    by_layer = norms == "layer"
    trees = (grads, updates, params)
    grad, update, weight = (norms_of(tree, by_layer=by_layer) for tree in trees)
    found = {f"grad_norm/{name}": norm for name, norm in grad.items()}
    found |= {f"update_norm/{name}": norm for name, norm in update.items()}
    found |= {f"update_share/{name}": update[name] / weight[name] for name in update}
    return {name: Mean.single(value) for name, value in found.items()}


def norms_of(tree: PyTree, *, by_layer: bool = False) -> dict[str, Float[Array, ""]]:
    """The norm of each group that is there; also of each layer's, if asked for.

    >>> tree = {"layers": {"mlp": {"in": jax.numpy.array([[3.0], [0.0]])}}}
    >>> {k: float(v) for k, v in norms_of({"decoder": tree}, by_layer=True).items()}
    {'mlp': 3.0, 'decoder/0/mlp': 3.0, 'decoder/1/mlp': 0.0}
    """
    groups, layers = {}, {}
    named = jax.tree_util.tree_leaves_with_path(assign(GROUPS)(tree))
    for (path, group), leaf in zip(named, jax.tree.leaves(tree), strict=True):
        groups.setdefault(group, []).append(leaf)
        stack, found, _ = name_of(path).partition(STACK)
        if found:
            layers.setdefault((stack.strip("/"), group), []).append(leaf)
    norms = {group: safe_norm(leaves) for group, leaves in sorted(groups.items())}
    if by_layer:
        for (stack, group), leaves in sorted(layers.items()):
            norm_N = jax.vmap(safe_norm)(leaves)
            norms |= {f"{stack}/{n}/{group}": norm for n, norm in enumerate(norm_N)}
    return norms
