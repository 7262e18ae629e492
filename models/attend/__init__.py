"""Attention: one function, several implementations, chosen by platform and shape."""

import math
import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.numbers import off
from core.types import Number
from models.attend import blockwise, cudnn, plain, splash, tokamax
from models.attend.bias import Bias
from models.attend.choose import (
    CAPABILITIES,
    Implementation,
    Request,
    choose,
    features_of,
    tell,
)
from models.attend.mask import Mask, Rule
from models.dropout import Drop

__all__ = ["IMPLEMENTATIONS", "Implementation", "attend"]

IMPLEMENTATIONS: Mapping[str, Callable[..., Array]] = types.MappingProxyType(
    {
        "plain": plain.attend,
        "blockwise": blockwise.attend,
        "cudnn": cudnn.attend,
        "splash": splash.attend,
        "tokamax": tokamax.attend,
    }
)


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    bias: Bias | None = None,
    softcap: Number = math.inf,
    drop: Drop | None = None,
    implementation: Implementation = "auto",
    platform: str | None = None,
) -> Float[Array, "B L H K"]:
    """softmax(capped(q k^T) + bias) v under a mask; queries are scaled already.

    A query that may see nothing gets zeros. `platform` is that of the program, if it is
    not this machine's own.

    Raises:
      ValueError: the implementation does not take this; order, a window or blocks over
        two texts.
    """
    lengths = query_BLHK.shape[1], key_BMGK.shape[1]
    if mask.rule != Rule() and lengths[0] != lengths[1]:
        raise ValueError(
            f"Attention to another text has no order, window or blocks, and {mask.rule}"
            f" is given for {lengths[0]} queries and {lengths[1]} keys."
        )
    platform = platform or jax.default_backend()
    features = features_of(
        mask.rule,
        prefix=mask.prefix_BM is not None,
        bias=bias is not None,
        softcap=not off(softcap, math.inf),
        dropout=drop is not None,
        float32=query_BLHK.dtype == jnp.float32,
    )
    unsplit = jax.device_count() > 1 and jax.sharding.get_abstract_mesh().empty
    request = Request(features, query_BLHK.shape[3], lengths, unsplit)
    name = choose(implementation, request, platform)
    tell(name, request, platform)
    options = {}
    if "bias" in CAPABILITIES[name].takes:
        options = dict(bias=bias, softcap=softcap, drop=drop)
    return IMPLEMENTATIONS[name](query_BLHK, key_BMGK, value_BMGK, mask, **options)
