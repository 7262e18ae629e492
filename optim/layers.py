"""Rules that take a tensor as a whole: each layer's on its own, as a matrix."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from core.axes import View, views_of


def per_layer(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """`tx` on every tensor of every layer, each as if it were all there is.

    Scanned layers lie in one array, and so do experts: a norm, a rank or a trace of it
    is no layer's. And a kernel of several axes is a matrix, (in, out); so `tx` sees
    matrices and vectors only. Its state is a tree of states, one a leaf, with the
    leaf's stacked axes in front.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf, view: _mapped(tx.init, view)(_as_seen(leaf, view)),
            params,
            views_of(params),
        )

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any):
        leaves, structure = jax.tree.flatten(updates)
        views = structure.flatten_up_to(views_of(updates))
        states = structure.flatten_up_to(state)
        weights = [None] * len(leaves) if params is None else jax.tree.leaves(params)
        one = functools.partial(_update_leaf, functools.partial(tx.update, **extra))
        pairs = list(map(one, views, leaves, states, weights))
        parts = zip(*pairs, strict=True) if pairs else ([], [])
        return tuple(structure.unflatten(part) for part in parts)

    return optax.GradientTransformationExtraArgs(init, update)


def map_layers(function: Callable[[Any], Any], tree: PyTree) -> PyTree:
    """`function` of every layer's matrix (in, out) or vector, back in the leaf's shape.

    What has another shape than it was given is stacked as the layers are.
    """

    def one(leaf, view):
        found = _mapped(function, view)(_as_seen(leaf, view))
        same = found.shape[view.num_stacked :] == view.shape
        return found.reshape(leaf.shape) if same else found

    return jax.tree.map(one, tree, views_of(tree))


def _update_leaf(update, view: View, leaf, state, weight):
    weight = None if weight is None else _as_seen(weight, view)
    new, state = _mapped(update, view)(_as_seen(leaf, view), state, weight)
    return new.reshape(leaf.shape), state


def _as_seen(leaf, view: View):
    return leaf.reshape(*leaf.shape[: view.num_stacked], *view.shape)


def _mapped(function, view: View):
    for _ in range(view.num_stacked):
        function = jax.vmap(function)
    return function
