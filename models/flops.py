"""Floating-point operations of a model, by counting its matrix products.

Source: the convention of Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311,
appendix B: a multiply-add is two, a causal mask halves nothing, recomputation is free.
Of a window or a block, only its own places count; of experts, only those that are
asked.
"""

import jax
from jaxtyping import PyTree

from core.axes import axes_of
from core.trees import name_of
from models.settings import Settings

TABLES = ("/embed", "/place", "/distance", "/type_embed")  # are looked up
UNEMBED = "/unembed"


def forward(params: PyTree, model: Settings, *, B: int, L: int, M: int = 0) -> int:
    """One forward pass over B rows of L tokens, and M of a source if there is one."""
    total = 0
    names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    readout = UNEMBED if any(name.endswith(UNEMBED) for name in names) else "/embed"

    def add(path, leaf, axes):
        nonlocal total
        name = name_of(path)
        if not name.endswith(readout) and (
            len(axes.removeprefix("N")) == 1 or name.endswith(TABLES)
        ):
            return
        reads_source = M and (
            "/encoder/" in name
            or name.endswith(("cross_attention/key", "cross_attention/value"))
        )
        share = model.experts_per_token / model.num_experts if "E" in axes[:2] else 1
        total += round(2 * leaf.size * share) * B * (M if reads_source else L)
        if name.endswith("attention/query"):
            queries, memory = (M, M) if reads_source else (L, L)
            if name.endswith("cross_attention/query"):
                memory = M
            else:
                near = min(model.window or memory, model.block or memory)
                memory = min(memory, near + model.num_global)
            N, _, H, K = leaf.shape
            total += 4 * N * B * H * K * queries * memory

    jax.tree_util.tree_map_with_path(add, params, axes_of(params))
    return total
