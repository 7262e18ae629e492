"""Where a step may end: `optim.constrain`, after the rate and the decay.

Each moves the parameters once more, to the nearest that fulfil it or that trade their
distance against a penalty (the proximal step). Kernels only, each layer's on its own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.registry import Entry, Note, Range
from core.types import Number
from optim.layers import map_layers
from optim.links import DECAYED, Link, link
from optim.walk import landed


class Norms(NamedTuple):
    """Of every kernel of every layer as training began; () of the rest."""

    norms: PyTree


def constrain(
    *,
    prox_l1: Number = 0.0,
    prox_group: Number = 0.0,
    max_norm: Number = math.inf,
    fixed_norm: bool = False,
) -> tuple[Link, ...]:
    """In this order, with K a kernel (in, out) of one layer:

    prox_l1     w <- sign(w) max(|w| - rate prox_l1, 0): the lasso, with exact zeros
    prox_group  row <- row max(1 - rate prox_group sqrt(out) / |row|, 0), all that
                leaves one input: the group lasso; with prox_l1 the sparse group lasso
    max_norm    column <- column min(1, max_norm / |column|), all that makes one output
    fixed_norm  K <- K |K at the start| / |K|, Frobenius norms

    The elastic net is prox_l1 beside `optim.l2`.
    Source: Parikh & Boyd 2014, https://doi.org/10.1561/2400000003, section 6.5; Yuan &
    Lin 2006, https://doi.org/10.1111/j.1467-9868.2005.00532.x; Scardapane et al. 2017,
    https://arxiv.org/abs/1607.00485; Srivastava et al. 2014 (max-norm),
    https://jmlr.org/papers/v15/srivastava14a.html, section 5.1; fixed_norm: Wen et al.
    2026, without their change of the rate.
    """
    return (
        *link("prox_l1", _each(_shrunk), prox_l1),
        *link("prox_group", _each(_rows_shrunk), prox_group),
        *link("max_norm", _each(_columns_within), max_norm, neutral=math.inf),
        *((("fixed_norm", _at_norm_of_start()),) * fixed_norm),
    )


def _each(
    move: Callable[..., Array],
) -> Callable[[Number], optax.GradientTransformationExtraArgs]:
    """Number -> link that ends a step at `move(w, number, rate)` of each kernel."""

    def make(number: Number) -> optax.GradientTransformationExtraArgs:
        def update(updates, state, params=None, **extra):
            there = map_layers(
                lambda w: move(w, number, extra["rate"]), landed(params, updates)
            )
            return _towards(there, updates, params), state

        return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)

    return make


def _at_norm_of_start() -> optax.GradientTransformationExtraArgs:
    def init(params):
        norms = map_layers(_norm, params)
        return Norms(
            jax.tree.map(lambda n, kernel: n if kernel else (), norms, DECAYED(params))
        )

    def update(updates, state, params=None, **extra):
        del extra
        there = landed(params, updates)
        norms = map_layers(_norm, there)

        def scaled(w, norm, start):
            if isinstance(start, tuple):
                return w
            share = start / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
            return w * share.reshape(share.shape + (1,) * (w.ndim - share.ndim))

        new = jax.tree.map(scaled, there, norms, state.norms)
        return _towards(new, updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _towards(new, updates, params):
    """Updates that end at `new` where a kernel is, and as they were elsewhere."""
    return jax.tree.map(
        lambda n, u, w, kernel: (n - w).astype(u.dtype) if kernel else u,
        new,
        updates,
        params,
        DECAYED(params),
    )


def _norm(w):
    return jnp.sqrt(jnp.sum(jnp.square(w.astype(jnp.float32))))


def _shrunk(w, penalty, rate):
    return jnp.sign(w) * jnp.maximum(jnp.abs(w) - rate * penalty, 0.0)


def _rows_shrunk(w, penalty, rate):
    norm = jnp.sqrt(jnp.sum(w**2, axis=-1, keepdims=True))
    threshold = rate * penalty * math.sqrt(w.shape[-1])
    safe = jnp.where(norm > 0, norm, 1.0)
    return w * jnp.maximum(1.0 - threshold / safe, 0.0)


def _columns_within(w, most, rate):
    del rate
    norm = jnp.sqrt(jnp.sum(w**2, axis=0, keepdims=True))
    return w * jnp.minimum(1.0, most / jnp.where(norm > 0, norm, 1.0))


PROOF = "tests/test_optim_constrain.py"

CONSTRAIN = Entry(
    constrain,
    "",
    {
        "prox_l1": Range("[0, inf)", neutral=0.0),
        "prox_group": Range("[0, inf)", neutral=0.0),
        "max_norm": Range("(0, inf]", neutral=math.inf),
    },
    words={
        "prox_l1": Note(
            PROOF,
            source="Tibshirani 1996; Parikh & Boyd 2014, "
            "https://doi.org/10.1561/2400000003",
        ),
        "prox_group": Note(
            PROOF,
            source="Yuan & Lin 2006; Scardapane et al. 2017, "
            "https://arxiv.org/abs/1607.00485",
        ),
        "max_norm": Note(
            PROOF,
            source="Srivastava et al. 2014, "
            "https://jmlr.org/papers/v15/srivastava14a.html",
        ),
        "fixed_norm": Note(PROOF, source="Wen et al. 2026"),
    },
)
