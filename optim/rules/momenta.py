"""Rules with Adam's denominator and two momenta over it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.types import Number


class AdanState(NamedTuple):
    """Running means of g, of its change and of the square; the last g; their number."""

    mu: PyTree
    drift: PyTree
    nu: PyTree
    last: PyTree
    num_updates: Array


def adan(
    *,
    b1: Number = 0.98,
    b2: Number = 0.92,
    b3: Number = 0.99,
    eps: Number = 1e-8,
) -> optax.GradientTransformation:
    """u <- (m' + b2 d') / (sqrt(n') + eps), Nesterov's momentum without looking ahead.

    m <- b1 m + (1 - b1) g
    d <- b2 d + (1 - b2) c,            c = g - last g, zero at the first
    n <- b3 n + (1 - b3) (g + b2 c)^2

    each corrected by 1 - b^t. The betas are those of the authors' code, one less the
    paper's. So the factor of c and d, 1 - beta2 in the paper, is b2 here: 0.92. Optax
    0.2.8 has taken over the paper's letters and has 0.08. The authors' decay divides by
    1 + rate decay; the chain's, which subtracts, is their `no_prox`.
    `b1`, `b2` and `b3` lie in [0, 1).
    Source: Xie et al. 2022, https://arxiv.org/abs/2208.06677, algorithm 1.
    """

    def init(params):
        zeros = [optax.tree.zeros_like(params) for _ in range(4)]
        return AdanState(*zeros, num_updates=jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        first = state.num_updates == 0
        num_updates = state.num_updates + 1
        change = jax.tree.map(
            lambda g, last: jnp.where(first, 0, g - last), updates, state.last
        )
        ahead = jax.tree.map(lambda g, c: g + b2 * c, updates, change)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        drift = optax.tree.update_moment(change, state.drift, b2, 1)
        nu = optax.tree.update_moment(ahead, state.nu, b3, 2)
        new = jax.tree.map(
            lambda m, d, n: (m + b2 * d) / (jnp.sqrt(n) + eps),
            optax.tree.bias_correction(mu, b1, num_updates),
            optax.tree.bias_correction(drift, b2, num_updates),
            optax.tree.bias_correction(nu, b3, num_updates),
        )
        return new, AdanState(mu, drift, nu, updates, num_updates)

    return optax.GradientTransformation(init, update)


def ademamix(
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    b3: Number = 0.9999,
    alpha: Number = 5.0,
    eps: Number = 1e-8,
    alpha_steps: int = 0,
    b3_steps: int = 0,
) -> optax.GradientTransformation:
    """Adam with a slow momentum too:  u <- (m' + alpha s) / (sqrt(v') + eps)

    s <- b3 s + (1 - b3) g, not corrected: it fills over 1 / (1 - b3) steps.

    `alpha` rises linearly from 0 over the first `alpha_steps` updates, and b3 from b1
    over the first `b3_steps`, such that the half-life of s rises linearly:
    1 / log(b3(t)) goes from 1 / log(b1) to 1 / log(b3). The paper has both equal to the
    length of the run; 0 is no warmup. t counts from 1, as in the paper and the authors'
    PyTorch code; their Optax code counts from 0. In float32, 1 - 0.9999 is off by 2e-4
    of itself, so s by as much. `b1`, `b2` and `b3` lie in [0, 1), `alpha` in [0, inf).
    Source: Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137, algorithm 1 and
    equations of section 3.
    """

    def alpha_at(num_before):
        return alpha * jnp.minimum((num_before + 1) / alpha_steps, 1)

    def b3_at(num_before):
        share = (num_before + 1) / b3_steps
        inverse = (1 - share) / jnp.log(b1) + share / jnp.log(b3)
        return jnp.where(share < 1, jnp.exp(1 / inverse), b3)

    return optax.contrib.scale_by_ademamix(
        b1=b1,
        b2=b2,
        b3=b3_at if b3_steps else b3,
        alpha=alpha_at if alpha_steps else alpha,
        eps=eps,
    )


def check_warmups(*, alpha_steps: int = 0, b3_steps: int = 0, **others: object) -> None:
    """Refuses a warmup of fewer than no steps.

    Raises:
      ValueError: one is negative.
    """
    del others
    for key, steps in dict(alpha_steps=alpha_steps, b3_steps=b3_steps).items():
        if steps < 0:
            raise ValueError(f"{key}={steps} must be 0, for none, or more.")
