"""Floating-point operations of a model, by counting its matrix products.

Source: the convention of Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311,
appendix B: a multiply-add is two, a causal mask halves nothing, recomputation is free.
"""

import jax
from jaxtyping import PyTree

from core.axes import axes_of
from core.trees import name_of


def encoder_decoder(params: PyTree, *, B: int, M: int, L: int) -> int:
    """One forward pass over B rows of M source and L target tokens.

    >>> import numpy as np
    >>> encoder_decoder({"embed": np.zeros((10, 4))}, B=1, M=3, L=2)
    160
    """
    total = 0

    def add(path, leaf, axes):
        nonlocal total
        name = name_of(path)
        if axes.removeprefix("N") == "D":
            return  # scales and biases multiply no matrix
        reads_source = "/encoder/" in name or name.endswith(
            ("cross_attention/key", "cross_attention/value")
        )
        total += 2 * leaf.size * B * (M if reads_source else L)
        if name.endswith("attention/query"):
            N, _, H, K = leaf.shape
            queries = M if "/encoder/" in name else L
            memory = L if name.endswith("decoder/layers/attention/query") else M
            total += 4 * N * B * H * K * queries * memory

    jax.tree_util.tree_map_with_path(add, params, axes_of(params))
    return total
