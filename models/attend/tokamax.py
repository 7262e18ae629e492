"""Tokamax's attention kernels for GPUs and TPUs: an extra, asked for by name.

Source: https://github.com/openxla/tokamax. It has no segments: what a mask says is
given as a mask, n^2 for each row whatever the heads.
"""

import importlib

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.attend.mask import Mask


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    implementation: str | None = None,
) -> Float[Array, "B L H K"]:
    """As `models/attend/plain.py`, without bias, cap and dropout.

    `implementation` is tokamax's own word; None lets it choose.
    """
    visible_BLM = mask.visible()
    mixed_BLHK = importlib.import_module("tokamax").dot_product_attention(
        query_BLHK,
        key_BMGK,
        value_BMGK,
        mask=visible_BLM[:, None],
        scale=1.0,
        implementation=implementation,
    )
    return jnp.where(visible_BLM.any(2)[..., None, None], mixed_BLHK, 0)
