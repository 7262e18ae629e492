"""Layers, or their branches, that rows skip at random in training.

Source: `layer`: LayerDrop, Fan et al. 2019, https://arxiv.org/abs/1909.11556, section
3.2: every layer is skipped whole with the same probability, and nothing makes up for it
when none is. `branch`: stochastic depth, Huang et al. 2016,
https://arxiv.org/abs/1603.09382, section 3 and equation 4: each branch by itself, of
layer n of N with probability rate n / N; a branch that is kept is divided by the
probability of that, where the paper multiplies by it in evaluation: the same mean.

It departs from both in that each row of a batch draws its own layers. What is skipped
is computed all the same: training is not faster for it.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models import dropout
from models.settings import Settings

# By name of a branch, or "layer": 0 in rows that skip it. (N B 1 1 of a whole stack.)
Kept = Mapping[str, Float[Array, "*N B 1 1"]]


def kept_of(
    settings: Settings, key: PRNGKeyArray, shape: tuple[int, int, int, int], cross: bool
) -> Kept:
    """What rows of a stack keep, in an array of `shape` (N, B, 1, 1) for each branch.

    Branches that are kept have 1 over the probability of that.
    """
    s, N = settings, shape[0]
    if s.layer_drop_kind == "layer":
        names, share_N = ("layer",), jnp.ones(N)
    else:
        names = ("attention", *(("cross",) if cross else ()), "mlp")
        share_N = jnp.arange(1, N + 1) / N
    keep_N111 = 1 - s.layer_drop * share_N[:, None, None, None]

    def draw(key):
        if s.generator == "threefry":
            kept = jax.random.bernoulli(key, keep_N111, shape)
        else:
            kept = dropout.mask(key, keep_N111, shape)
        return kept / keep_N111

    keys = jax.random.split(key, len(names))
    return {name: draw(key) for name, key in zip(names, keys, strict=True)}
