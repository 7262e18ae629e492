"""What the attention of a model is like on a batch."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Int, PyTree

from core.mean import Mean
from models.attend.look import Look


def looks_of(
    model: nn.Module, params: PyTree, inputs: Sequence[Int[Array, "B _"]]
) -> dict[str, Mean]:
    """`attention_logit/STACK/NUMBER` and `attention_entropy/STACK/NUMBER`, by layer.

    The largest score that a softmax was given, and the mean over queries and heads of
    the entropy of their weights, in nats. Attention to another text has `cross_` before
    it. Costs a forward pass without dropout, with all scores of a layer in memory.
    """
    call: Any = model.apply
    _, sown = call(
        {"params": params}, *inputs, train=False, mutable=["looks"], method="features"
    )
    found = {}
    leaves = jax.tree_util.tree_leaves_with_path(
        sown["looks"], is_leaf=lambda leaf: isinstance(leaf, Look)
    )
    for path, look in leaves:
        stack, _, name = (str(key.key) for key in path[:3])
        for n, (top, entropy, number) in enumerate(zip(*look, strict=True)):
            found[f"{name}_logit/{stack}/{n}"] = Mean.single(top)
            found[f"{name}_entropy/{stack}/{n}"] = Mean(entropy, number)
    return found
