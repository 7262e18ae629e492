"""The block's second half: a layer for each token alone.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.3; GELU:
Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415; ReLU squared: So et al. 2021,
https://arxiv.org/abs/2109.08668; SwiGLU and GEGLU: Shazeer 2020,
https://arxiv.org/abs/2002.05202.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from models.dropout import Dropout
from models.kernel import bias, kernel
from models.once import settled
from models.settings import Activation, Settings
from models.start import Start

GATED = ("swiglu", "geglu")


class Mlp(nn.Module):
    """Two layers with an activation between, or three where one of them is a gate."""

    settings: Settings
    start: Start = Start()

    @nn.compact
    def __call__(
        self, x_BLD: Float[Array, "B L D"], *, train: bool
    ) -> Float[Array, "B L D"]:
        s, dtype = self.settings, x_BLD.dtype
        D, F = s.width, s.mlp_width
        drop_connect = Dropout(s.drop_connect, s.generator, name="drop_connect")

        def project(name):
            w_DF = kernel(self, name, (D, F), gain=self.start.inner)
            w_DF = drop_connect(w_DF, train=train).astype(dtype)
            y_BLF = settled(jnp.einsum("BLD,DF->BLF", x_BLD, w_DF))
            if not s.bias:
                return y_BLF
            return y_BLF + bias(self, f"{name}_bias", (F,), dtype)

        y_BLF = project("in")
        drop = Dropout(s.mlp_dropout, s.generator)
        if s.activation == "relu":
            y_BLF = drop.relu(y_BLF, train=train)
        elif s.activation in GATED:
            gate_BLF = project("gate")
            y_BLF = drop(activate(s.activation, gate_BLF) * y_BLF, train=train)
        else:
            y_BLF = drop(activate(s.activation, y_BLF), train=train)
        out_FD = kernel(self, "out", (F, D), gain=self.start.out)
        out_FD = drop_connect(out_FD, train=train).astype(dtype)
        y_BLD = jnp.einsum("BLF,FD->BLD", y_BLF, out_FD)
        return y_BLD + bias(self, "out_bias", (D,), dtype) if s.bias else y_BLD


def activate(name: Activation, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """The nonlinearity; of a gated kind, that of the gate."""
    if name == "relu2":
        return jnp.square(nn.relu(x))
    if name == "swiglu":
        return nn.silu(x)
    if name == "relu":
        return nn.relu(x)
    return jax.nn.gelu(x, approximate=name != "gelu")
