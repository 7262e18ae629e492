"""Parameters by path: `/decoder/layers/attention/query`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import PyTree


def name_of(path: tuple) -> str:
    """A key path of `jax.tree_util` as the text that rules match."""
    return "/" + jax.tree_util.keystr(path, simple=True, separator="/")


def assign(rules: Mapping[str, Any]) -> Callable[[PyTree], PyTree]:
    """Returns tree -> tree of values: to each leaf, that of the pattern in its path.

    For all that is chosen by parameter: decay, freezing, rates, pruning, sharding.
    By name and not by rank, for scanning over layers makes a norm's scale a matrix.

    Raises:
      ValueError: a leaf has no rule, or two. A new parameter is decided on, not missed.

    >>> assign({r"/kernel$": 1.0, r"/bias$": 0.0})({"dense": {"kernel": 7, "bias": 8}})
    {'dense': {'bias': 0.0, 'kernel': 1.0}}
    """

    def value(path, _):
        name = name_of(path)
        found = [pattern for pattern in rules if re.search(pattern, name)]
        if len(found) != 1:
            raise ValueError(f"{name} matches {found or 'no rule'}; it must match one.")
        return rules[found[0]]

    return lambda tree: jax.tree_util.tree_map_with_path(value, tree)
