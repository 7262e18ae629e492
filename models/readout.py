"""From features to logits, whole or a piece at a time."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from core.types import Number
from models.attend.plain import capped


class Readout(NamedTuple):
    """logit = capped(x w + bias); None where one of these is not there."""

    weight_VD: Float[Array, "V D"]
    bias_V: Float[Array, "V"] | None = None
    softcap: Number | None = None

    def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Float32 logits of every token."""
        weight_VD = self.weight_VD.astype(x_BLD.dtype)
        logit_BLV = jnp.einsum(
            "BLD,VD->BLV", x_BLD, weight_VD, preferred_element_type=jnp.float32
        )
        if self.bias_V is not None:
            logit_BLV += self.bias_V[None, None]
        return logit_BLV if self.softcap is None else capped(logit_BLV, self.softcap)
