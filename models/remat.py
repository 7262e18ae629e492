"""What of a layer is kept for the backward pass.

Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from typing import TypeVar

import jax
from flax import linen as nn

from models.settings import Remat

Layer = TypeVar("Layer", bound=nn.Module)


def rematerialized(layer: type[Layer], name: Remat) -> type[Layer]:
    """The layer, with less of its forward pass kept for the backward pass.

    `dots` keeps the results of matrix products with weights, `full` the layer's input
    alone, `offload` what `dots` keeps, in the host's memory.
    """
    policies = jax.checkpoint_policies
    policy = {
        "none": None,
        "dots": policies.dots_with_no_batch_dims_saveable,
        "full": policies.nothing_saveable,
        "offload": policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
    }[name]
    if policy is None:
        return layer
    return nn.remat(layer, policy=policy, prevent_cse=False)
