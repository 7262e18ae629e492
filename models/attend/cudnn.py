"""cuDNN's fused attention on NVIDIA, through `jax.nn.dot_product_attention`.

It has no segments: they are given as a mask, n^2 for each row whatever the heads. Order
and window are given as its own words too, so that it skips what they leave out.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.attend.mask import Mask


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "B L H K"]:
    """As `models/attend/plain.py`, without bias, cap and dropout."""
    visible_BLM = mask.visible()
    mixed_BLHK = jax.nn.dot_product_attention(
        query_BLHK,
        key_BMGK,
        value_BMGK,
        mask=visible_BLM[:, None],
        scale=1.0,
        implementation=implementation,
        **_words(mask),
    )
    return jnp.where(visible_BLM.any(2)[..., None, None], mixed_BLHK, 0)


def _words(mask: Mask) -> dict[str, Any]:
    """Order and window by row: within a segment, those by place are the same."""
    rule = mask.rule
    if not rule.causal or mask.prefix_BM is not None:
        return {}
    if not rule.window or rule.num_global:
        return dict(is_causal=True)
    return dict(is_causal=True, local_window_size=(rule.window - 1, 0))
