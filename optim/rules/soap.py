"""SOAP: Adam in the basis in which Shampoo is diagonal.

Source: Vyas et al. 2024, https://arxiv.org/abs/2409.11321, algorithm 3, and the
authors' soap.py, https://github.com/nikhilvyas/SOAP. Departs from both in that `eps`
is added after the correction of bias, as in our Adam.

X and Y are a side of a matrix, and E counts the directions of its basis.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.types import Number
from optim.factorize import eigh, orthonormal
from optim.rules.counted import per_layer_counted
from optim.rules.halves import EXACT, Half, square, whole, zeros


def soap(
    *,
    b1: Number = 0.95,
    b2: Number = 0.95,
    b3: Number = 0.95,
    eps: Number = 1e-8,
    every_steps: int = 10,
    max_side: int = 10_000,
) -> optax.GradientTransformationExtraArgs:
    """u <- Q_L N Q_R^T, with N Adam's update for the gradient Q_L^T G Q_R.

    L <- b3 L + (1 - b3) G G^T,  R <- b3 R + (1 - b3) G^T G
    Q_L <- qr(L Q_L), its columns sorted by Q_L^T L Q_L, the largest first; Q_R likewise

    The bases are renewed every `every_steps` steps, after the update; then the momentum
    turns with them, and v follows the sorting. The first step moves nothing: it starts
    L and R, and the bases as their eigenvectors. Sides longer than `max_side` are not
    rotated, nor are vectors; with no side rotated, this is Adam from the second step
    on. Every matrix of every layer is rotated, embeddings on their short side.
    Between renewals a side costs three products. But mapped over numbers, as in a sweep
    in one program, each step pays for a renewal and for the first step's eigenvectors:
    `lax.switch` becomes a select. `b1`, `b2` and `b3` lie in [0, 1).
    Source: see above.
    """
    one = _Soap(b1, b2, b3, eps, every_steps, max_side)
    return per_layer_counted(
        optax.GradientTransformationExtraArgs(one.init, one.update)
    )


class SoapState(NamedTuple):
    """Of one matrix: Adam's moments, in the basis; of each rotated side two matrices.

    `factors` are the halves of L and R of the paper, `bases` Q_L and Q_R, in float32.
    """

    mu: Array
    nu: Array
    factors: tuple[Half, ...]
    bases: tuple[Array, ...]


class _Soap(NamedTuple):
    """SOAP of one matrix."""

    b1: Number
    b2: Number
    b3: Number
    eps: Number
    every_steps: int
    max_side: int

    def axes(self, matrix: Array) -> tuple[int, ...]:
        """Those that have a basis."""
        sides = matrix.shape if matrix.ndim == 2 else ()
        return tuple(axis for axis, side in enumerate(sides) if side <= self.max_side)

    def init(self, params: Any) -> SoapState:
        sides = [params.shape[axis] for axis in self.axes(params)]
        return SoapState(
            jnp.zeros_like(params),
            jnp.zeros_like(params),
            tuple(map(zeros, sides)),
            tuple(jnp.eye(side, dtype=jnp.float32) for side in sides),
        )

    def update(
        self, updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Array, SoapState]:
        del params
        num_updates = extra["num_updates"]
        axes, b1, b2 = self.axes(updates), self.b1, self.b2
        grad = updates.astype(jnp.float32)
        turned = _into(axes, grad, state.bases)
        mu = b1 * state.mu.astype(jnp.float32) + (1 - b1) * turned
        nu = b2 * state.nu.astype(jnp.float32) + (1 - b2) * turned**2
        # The first gradient is in neither moment: it would choose its own basis.
        started = num_updates > 0
        mu, nu = (jnp.where(started, moment, 0.0) for moment in (mu, nu))
        num = jnp.maximum(num_updates, 1)
        adam = mu / (1 - b1**num) / (jnp.sqrt(nu / (1 - b2**num)) + self.eps)
        factors = jax.tree.map(
            lambda old, new: self.b3 * old + (1 - self.b3) * new,
            state.factors,
            tuple(_square(axis, grad) for axis in axes),
        )
        due = jnp.where(num_updates % self.every_steps == 0, 2, 0)
        mu, nu, bases = jax.lax.switch(
            jnp.where(started, due, 1),
            [
                lambda: (mu, nu, state.bases),
                lambda: (mu, nu, tuple(map(_eigenvectors, factors))),
                lambda: _renewed(axes, mu, nu, factors, state.bases),
            ],
        )
        new = _back(axes, adam, state.bases)
        return new.astype(updates.dtype), SoapState(mu, nu, factors, bases)


def _into(axes, x, bases):
    """Q_L^T x Q_R."""
    for axis, basis in zip(axes, bases, strict=True):
        x = basis.T @ x if axis == 0 else x @ basis
    return x


def _back(axes, x, bases):
    """Q_L x Q_R^T."""
    for axis, basis in zip(axes, bases, strict=True):
        x = basis @ x if axis == 0 else x @ basis.T
    return x


def _square(axis, grad):
    """The half of G G^T or G^T G."""
    return square(grad.T if axis == 0 else grad)


def _eigenvectors(factor):
    """Largest first."""
    return eigh(whole(factor))[1][:, ::-1]


def _renewed(axes, mu, nu, factors, bases):
    """The moments and the bases after a step of power iteration."""
    mu = _back(axes, mu, bases)
    renewed = []
    for axis, factor, basis_YE in zip(axes, factors, bases, strict=True):
        power_XE = jnp.matmul(whole(factor), basis_YE, precision=EXACT)
        value_E = (basis_YE * power_XE).sum(0)
        order_E = jnp.argsort(value_E, descending=True)
        nu = jnp.take(nu, order_E, axis=axis)
        renewed.append(orthonormal(power_XE[:, order_E]))
    return _into(axes, mu, renewed), nu, tuple(renewed)
