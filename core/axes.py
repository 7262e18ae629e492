"""Which axes every parameter has: the one table of leaf names.

Sharding, decay, muP, per-layer norms, pruning and weight conversion read it. Letters
are those of STYLE.md.
"""

import math
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from core.trees import assign, name_of

# "in out", or "stack in out" of several matrices in a leaf; a vector has one word.
AXES = {
    r"/(un)?embed$": "V D",
    r"/type_embed$": "S D",
    r"/place$": "L D",
    r"/distance$": "R H",
    r"/query$": "D HK",
    r"/(key|value)$": "D GK",
    r"attention/out$": "HK D",
    r"/query_bias$": "HK",
    r"/(key|value)_bias$": "GK",
    r"attention/out_bias$": "D",
    r"/(query|key)_norm/scale$": "K",
    r"/experts/router$": "D E",
    r"/experts/(in|gate)$": "E D F",
    r"/experts/out$": "E F D",
    r"/mlp/(in|gate)$": "D F",
    r"/mlp/out$": "F D",
    r"/mlp/(in|gate)_bias$": "F",
    r"/mlp/out_bias$": "D",
    r"/head$": "D D",
    r"/head_bias$": "D",
    r"/readout_bias$": "V",
    r"(?<!query_norm)(?<!key_norm)/(scale|bias)$": "D",
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
    return jax.tree.map(lambda words: words.replace(" ", ""), _words_of(params))


def inputs_of(params: PyTree) -> PyTree:
    """Tree -> tree of the letters that each matrix is summed over; "" for a vector.

    >>> import numpy as np
    >>> inputs_of({"mlp": {"in": np.zeros((8, 32)), "in_bias": np.zeros(32)}})
    {'mlp': {'in': 'D', 'in_bias': ''}}
    """
    return jax.tree.map(
        lambda words: words.split()[-2] if " " in words.removeprefix("N ") else "",
        _words_of(params),
    )


class View(NamedTuple):
    """A leaf as matrices: `num_stacked` leading axes count them, `shape` is of one.

    One is (in, out), the axes of each side merged; a vector has an axis only.
    """

    num_stacked: int
    shape: tuple[int, ...]


def views_of(params: PyTree) -> PyTree:
    """Tree -> tree of what each tensor of each layer is to rules that take it whole.

    >>> import numpy as np
    >>> views_of({"layers": {"attention": {"query": np.zeros((2, 8, 4, 3))}}})
    {'layers': {'attention': {'query': View(num_stacked=1, shape=(8, 12))}}}
    """

    def view(leaf, words):
        own = words.removeprefix("N ").split()
        num_stacked = words.startswith("N ") + len(own[:-2])
        sizes = iter(leaf.shape[num_stacked:])
        sides = [[next(sizes) for _ in side] for side in own[-2:]]
        return View(num_stacked, tuple(map(math.prod, sides)))

    return jax.tree.map(view, params, _words_of(params))


def _words_of(params: PyTree) -> PyTree:
    """As in AXES, with an `N` before those of a stack."""
    words = assign(AXES)(params)

    def stacked(path, leaf, words):
        words = ("N " if STACK in name_of(path) else "") + words
        if len(words.replace(" ", "")) != leaf.ndim:
            raise ValueError(
                f"{name_of(path)} has shape {leaf.shape}, not axes {words}."
            )
        return words

    return jax.tree_util.tree_map_with_path(stacked, params, words)
