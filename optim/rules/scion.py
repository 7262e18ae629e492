"""Scion: each tensor moves to the farthest point, downhill, of a ball of its own norm.

Source: Pethick et al. 2025, https://arxiv.org/abs/2502.07529; the authors' code,
https://github.com/LIONS-EPFL/scion.
"""

import functools
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from core.types import Number
from optim.layers import per_layer
from optim.rules.descent import sgd
from optim.rules.kinds import KINDS
from optim.rules.polar import Coefficients, normalized, polar

Ends = Literal["sign", "rows"]


def scion(
    *,
    momentum: Number = 0.9,
    radius: Number = 1.0,
    end_radius: Number = 60.0,
    ends: Ends = "sign",
    constrained: bool = False,
    coefficients: Coefficients = "jordan",
    steps: int = 5,
) -> optax.GradientTransformationExtraArgs:
    """m <- momentum m + g;  u <- r lmo(m), or if `constrained`  u <- r lmo(m) + w.

    r lmo(m) is where <m, .> is largest in the ball of radius r about 0, by kind:

    hidden (in, out)     r = radius      sqrt(out / in) polar(m)
    vector               r = radius      m / rms(m)
    table and readout    r = end_radius  sign(m) / D, or with ends="rows" each row (of
    (rows, D), router                    a token, an expert) m / rms(m) / D
    (D, experts)

    So u is as large at every width and a small model's rate serves a wide one.
    Constrained, w <- (1 - rate) w - rate r lmo(m): weights that began in the ball never
    leave it. That is decay 1 of all parameters; keep `optim.decay` at 0.

    Unconstrained, only rate r matters: about 0.01 for hidden matrices. The ratio of
    the radii is the authors' for a language model with a tied output; constrained they
    take 50 and 3000, at rates of about 2^-12. Biases have `radius` there too; gains and
    learned places are ours. A table that is not tied they move by sign(m) times a
    radius of its own. Rows of a table without a gradient move on until their momentum
    has gone to 0.
    `coefficients` and `steps` are those of `polar`. `momentum` lies in [0, 1); the
    authors' number is 1 - momentum.
    """
    tables = _one_each(functools.partial(of_rows, ends=ends))
    kinds: Mapping[Hashable, optax.GradientTransformation] = {
        "hidden": _one_each(
            functools.partial(of_matrix, coefficients=coefficients, steps=steps)
        ),
        "table": tables,
        "readout": tables,
        "router": _one_each(lambda m_DE: of_rows(m_DE.T, ends).T),
        "vector": _one_each(of_vector),
    }
    radii = dict.fromkeys(kinds, end_radius) | {"hidden": radius, "vector": radius}

    def stretch(updates, params):
        del params
        return jax.tree.map(lambda u, kind: radii[kind] * u, updates, KINDS(updates))

    return optax.chain(
        sgd(momentum=momentum),
        optax.partition(kinds, KINDS),
        optax.stateless(stretch),
        *([optax.add_decayed_weights(1.0)] if constrained else []),
    )


def of_matrix(
    m_IO: Float[Array, "I O"], coefficients: Coefficients, steps: int
) -> Float[Array, "I O"]:
    """lmo of the unit ball of |x|_2 sqrt(in / out): features of rms 1 to as much."""
    num_inputs, num_outputs = m_IO.shape
    stretch = math.sqrt(num_outputs / max(1, num_inputs))
    return stretch * polar(m_IO, coefficients, steps)


def of_rows(m_VD: Float[Array, "V D"], ends: Ends) -> Float[Array, "V D"]:
    """lmo of the unit ball of D max|x|, or of D max rms(row) with ends="rows"."""
    width = max(1, m_VD.shape[-1])
    if ends == "sign":
        return jnp.sign(m_VD) / width
    return jax.vmap(of_vector)(m_VD) / width


def of_vector(m: Array) -> Array:
    """lmo of the unit ball of rms(x): m / rms(m), and zeros of zeros."""
    return math.sqrt(m.size) * normalized(m)


def _one_each(lmo: Callable[..., Array]) -> optax.GradientTransformation:
    return per_layer(optax.stateless(lambda m, _: lmo(m)))
