"""Shampoo: a preconditioner for each side of a matrix, in blocks.

Source: Gupta et al. 2018, https://arxiv.org/abs/1802.09568, algorithm 1; blocks and
grafting: Anil et al. 2020, https://arxiv.org/abs/2002.09018; averages, their bias
corrected: Shi et al. 2023, https://arxiv.org/abs/2309.06497.

A matrix has R rows and C columns; it is J by W blocks of P by Q. X and Y are a side of
a block, P or Q, and E counts its eigenvectors.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.types import Number
from optim.factorize import eigh
from optim.rules.counted import check_every, per_layer_counted

EXACT = jax.lax.Precision.HIGHEST
TINY = 1.1754944e-38  # the least normal float32
Statistics = Literal["mean", "sum"]
Graft = Literal["adam", "none"]


def shampoo(
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    root_eps: Number = 1e-6,
    every_steps: int = 10,
    block: int = 1024,
    statistics: Statistics = "mean",
    graft: Graft = "adam",
) -> optax.GradientTransformationExtraArgs:
    """u <- L^(-1/4) M R^(-1/4), as long as Adam's update is, by blocks of a matrix.

    M <- b1 M + (1 - b1) G
    L <- b2 L + (1 - b2) G G^T,  R <- b2 R + (1 - b2) G^T G  (`statistics="mean"`)
    L <- b2 L + G G^T,  R <- b2 R + G^T G  ("sum"; with b2 = 1 that of Gupta et al.)

    M, and of means L and R, are corrected for the zeros that they began with. The roots
    are made at the first step and every `every_steps` after it; before, `root_eps` of
    the largest eigenvalue is added to each. Blocks have sides of `block` at most, and
    as equal as can be. With `graft="adam"` a matrix's update has the norm of Adam's,
    with the same b1 and b2 (v is a sum where L and R are); with "none" its own.
    Vectors take Adam's update. Every matrix of every layer is preconditioned.
    Mapped over numbers, as in a sweep in one program, each step pays for the roots:
    `lax.cond` becomes a select. `b1` lies in [0, 1), `b2` too, or is 1 for a sum.
    Source: see above. Departs from Anil et al. in equal blocks and in their averages,
    from Shi et al. in grafting a matrix and not each block, and in a `root_eps`
    relative to the largest eigenvalue, so that the gradient's scale does not matter.
    """
    one = _Shampoo(b1, b2, eps, root_eps, every_steps, block, statistics, graft)
    return per_layer_counted(
        optax.GradientTransformationExtraArgs(one.init, one.update)
    )


def check(
    *, b2: float = 0.999, block: int = 1, statistics: str = "mean", **rest: Any
) -> None:
    """Raises ValueError for no block, or a mean that would never take anything in."""
    check_every(**rest)
    if block < 1:
        raise ValueError(f"block={block} must be at least 1.")
    if statistics == "mean" and b2 == 1:
        raise ValueError(f"{b2=} must be less than 1 where {statistics=}.")


class ShampooState(NamedTuple):
    """Of one matrix: the momentum, v, and of each block G G^T, G^T G and their roots.

    `nu` is () where nothing has Adam's norm; factors and roots are in float32.
    """

    mu: Array
    nu: Array | tuple[()]
    factors: tuple[Array, ...]
    roots: tuple[Array, ...]


class _Shampoo(NamedTuple):
    """Shampoo of one matrix."""

    b1: Number
    b2: Number
    eps: Number
    root_eps: Number
    every_steps: int
    block: int
    statistics: Statistics
    graft: Graft

    def init(self, params: Any) -> ShampooState:
        zeros = jnp.zeros_like(params)
        if params.ndim < 2:
            return ShampooState(zeros, zeros, (), ())
        (J, W), (P, Q) = _grid(params.shape, self.block)
        eyes = [jnp.tile(jnp.eye(X), (J, W, 1, 1)) for X in (P, Q)]
        factors = tuple(map(jnp.zeros_like, eyes))
        nu = zeros if self.graft == "adam" else ()
        return ShampooState(zeros, nu, factors, tuple(eyes))

    def update(
        self, updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Array, ShampooState]:
        del params
        num_updates = extra["num_updates"]
        grad = updates.astype(jnp.float32)
        old = jax.tree.map(lambda x: x.astype(jnp.float32), state)
        num = num_updates + 1
        share, whole = 1.0, 1.0
        if self.statistics == "mean":
            share, whole = 1 - self.b2, 1 - self.b2**num
        mu = self.b1 * old.mu + (1 - self.b1) * grad
        new = mean = mu / (1 - self.b1**num)
        nu, factors, roots = old.nu, old.factors, old.roots
        if updates.ndim == 2:
            blocks = _blocks(grad, self.block)
            factors = _factors(factors, self.b2, share, blocks)
            roots = jax.lax.cond(
                num_updates % self.every_steps == 0,
                lambda: tuple(_root(x / whole, self.root_eps) for x in factors),
                lambda: old.roots,
            )
            new = _preconditioned(mean, roots, self.block)
        if updates.ndim < 2 or self.graft == "adam":
            nu = self.b2 * nu + share * grad**2
            adam = mean / (jnp.sqrt(nu / whole) + self.eps)
            new = adam if updates.ndim < 2 else _as_long_as(adam, new)
        return new.astype(updates.dtype), ShampooState(mu, nu, factors, roots)


def _grid(shape, block):
    """How many blocks a matrix has down and across, and their two sides."""
    counts = [max(1, math.ceil(side / block)) for side in shape]
    sides = [math.ceil(side / n) for side, n in zip(shape, counts, strict=True)]
    return counts, sides


def _blocks(x_RC, block):
    """(J, W, P, Q); the last blocks of each side are filled with zeros.

    Those are zeros in the factors and get zeros, whatever the roots are there.
    """
    (J, W), (P, Q) = _grid(x_RC.shape, block)
    R, C = x_RC.shape
    x_RC = jnp.pad(x_RC, ((0, J * P - R), (0, W * Q - C)))
    x_JPWQ = x_RC.reshape(J, P, W, Q)
    return jnp.einsum("JPWQ->JWPQ", x_JPWQ)


def _factors(old, b2, share, x_JWPQ):
    """G G^T and G^T G of each block, with this gradient's."""
    left, right = old
    x_JWYQ = x_JWPY = x_JWPQ
    left_JWPY = jnp.einsum("JWPQ,JWYQ->JWPY", x_JWPQ, x_JWYQ, precision=EXACT)
    right_JWQY = jnp.einsum("JWPQ,JWPY->JWQY", x_JWPQ, x_JWPY, precision=EXACT)
    return b2 * left + share * left_JWPY, b2 * right + share * right_JWQY


def _root(factor_JWXY, root_eps):
    """(factor + root_eps top)^(-1/4), where top is its largest eigenvalue."""
    value_JWE, vector_JWXE = jax.vmap(jax.vmap(eigh))(factor_JWXY)
    top_JW1 = value_JWE[..., -1:]
    top_JW1 = jnp.where(top_JW1 > 0, top_JW1, 1.0)
    share_JWE = jnp.maximum(value_JWE / top_JW1, 0.0) + root_eps
    scaled_JWXE = vector_JWXE * (top_JW1 * share_JWE)[..., None, :] ** -0.25
    vector_JWYE = vector_JWXE
    return jnp.einsum("JWXE,JWYE->JWXY", scaled_JWXE, vector_JWYE, precision=EXACT)


def _preconditioned(x_RC, roots, block):
    """Each block between its two roots."""
    left_JWXP, right_JWQY = roots
    x_JWPQ = _blocks(x_RC, block)
    x_JWXQ = jnp.einsum("JWXP,JWPQ->JWXQ", left_JWXP, x_JWPQ)
    x_JWXY = jnp.einsum("JWXQ,JWQY->JWXY", x_JWXQ, right_JWQY)
    J, W, X, Y = x_JWXY.shape
    x_JXWY = jnp.einsum("JWXY->JXWY", x_JWXY)
    R, C = x_RC.shape
    return x_JXWY.reshape(J * X, W * Y)[:R, :C]


def _as_long_as(adam, new):
    """`new` with the norm of `adam`."""
    norm = jnp.maximum(jnp.linalg.norm(new), TINY)
    return new * (jnp.linalg.norm(adam) / norm)
