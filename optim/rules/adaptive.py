"""Rules that divide each coordinate by a measure of its own past gradients.

Those which only change one thing of Adam stand in `adam.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from core.numbers import off
from core.types import Number


def adagrad(*, eps: Number = 1e-10) -> optax.GradientTransformation:
    """u <- g / sqrt(s + eps^2),  s <- s + g^2

    So steps shrink as 1 / sqrt(t). s begins at zero, as in PyTorch, and with it the
    first step is sign(g); Optax's default begins at 0.1. PyTorch adds `eps` outside the
    root, which is the same until gradients are as small as it.
    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html, figure 1.
    """
    return optax.scale_by_rss(initial_accumulator_value=0.0, eps=eps**2)


def rmsprop(
    *,
    b2: Number = 0.9,
    eps: Number = 1e-8,
    momentum: Number = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    """h <- g / (sqrt(v) + eps);  u <- h, or with momentum u <- momentum u + h

    v <- b2 v + (1 - b2) g^2, less the square of the running mean of g if `centered`.

    As in PyTorch: v begins at zero without correction, so the first step is that of
    the sign over sqrt(1 - b2); `eps` stands outside the root; the rate lies outside the
    momentum. b2 = 0.9 is Hinton's; PyTorch's default, 0.99, makes that first step three
    times as large. Centered, v is a difference which rounding makes negative where g
    hardly varies: it is zero then (in Optax and PyTorch the step is NaN). Where g does
    not vary at all, h grows to g / eps, so that a centered rule wants a larger `eps`,
    such as Graves's 1e-4. `b2` and `momentum` lie in [0, 1).
    Source: Tieleman & Hinton 2012, lecture 6.5 of "Neural networks for machine
    learning"; centered, Graves 2013, https://arxiv.org/abs/1308.0850, equations 38-41.
    """
    if centered:
        scale = _scale_by_deviation(b2, eps)
    else:
        scale = optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False)
    return scale if off(momentum, 0.0) else optax.chain(scale, optax.trace(momentum))


class Moments(NamedTuple):
    """Running means of the gradient and of its square."""

    mu: PyTree
    nu: PyTree


def _scale_by_deviation(b2: Number, eps: Number) -> optax.GradientTransformation:
    def init(params):
        return Moments(optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        del params
        mu = optax.tree.update_moment(updates, state.mu, b2, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)

        def scale(g, m, v):
            return g / (jnp.sqrt(jnp.maximum(v - m**2, 0)) + eps)

        return jax.tree.map(scale, updates, mu, nu), Moments(mu, nu)

    return optax.GradientTransformation(init, update)


def adadelta(*, rho: Number = 0.9, eps: Number = 1e-6) -> optax.GradientTransformation:
    """u <- g sqrt(x + eps) / sqrt(v + eps), with running means v of g^2 and x of u^2.

    v <- rho v + (1 - rho) g^2, then u, then x <- rho x + (1 - rho) u^2

    u is in the units of the parameters, so the rate is 1 in the paper and PyTorch. The
    first steps are of size sqrt(eps / (1 - rho)) whatever g is, and grow from there.
    `rho` lies in [0, 1).
    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701, algorithm 1.
    """
    return optax.scale_by_adadelta(rho=rho, eps=eps)


def adabelief(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-16
) -> optax.GradientTransformation:
    """Adam with the surprise in place of the size:  u <- m' / (sqrt(s') + eps)

    s <- b2 s + (1 - b2) (g - m)^2 + eps,  m' and s' corrected as Adam's

    A gradient as foreseen makes a large step: under a constant one the denominator
    falls to sqrt(eps / (1 - b2)) in the end. `eps` is the paper's, both
    inside s, where it adds up, and outside the root; it is about the square of
    Adam's. At b1 = 0 the mean is the gradient itself and nothing surprises: so `b1`
    lies in (0, 1), `b2` in [0, 1).
    Source: Zhuang et al. 2020, https://arxiv.org/abs/2010.07468, algorithm 2.
    """
    return optax.scale_by_belief(b1=b1, b2=b2, eps=eps, eps_root=eps)


def yogi(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-3
) -> optax.GradientTransformation:
    """Adam whose v moves by a share of g^2 whichever way it goes, so it falls slowly.

    v <- v - (1 - b2) sign(v - g^2) g^2,  u <- m' / (sqrt(v') + eps)

    v begins at 1e-6 as in the authors' TensorFlow code, and m at zero as there and in
    the paper (in Optax it begins at 1e-6 too, so parameters without a gradient move).
    The correction of m and v is that code's, but with `eps` added after it; the paper
    has none. The corrected v' begins near 1e-6 / (1 - b2): gradients below its root
    make small first steps. `b1` and `b2` lie in [0, 1).
    Source: Zaheer et al. 2018,
    https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization,
    algorithm 2.
    """
    tx = optax.scale_by_yogi(b1=b1, b2=b2, eps=eps, initial_accumulator_value=1e-6)

    def init(params):
        return optax.tree.set(tx.init(params), mu=optax.tree.zeros_like(params))

    return optax.GradientTransformation(init, tx.update)


def adopt(
    *,
    b1: Number = 0.9,
    b2: Number = 0.9999,
    eps: Number = 1e-6,
    clipped: bool = True,
) -> optax.GradientTransformation:
    """Divides by the v of before this gradient, and averages what comes of it.

    h = g / max(sqrt(v), eps), clipped to [-c, c] with c = t^(1/4)
    u <- m <- b1 m + (1 - b1) h, then v <- b2 v + (1 - b2) g^2

    The first gradient only makes v = g^2, with u = 0; t counts from the one after it,
    whose c is 1. That is Optax's and the authors' code; pytorch-optimizer clips at
    (t + 1)^(1/4). As h has no g in its denominator, Adam's counterexamples do not apply
    and any `b2` converges. Without `clipped` a coordinate whose first gradient was near
    zero takes steps of up to g / eps. `b1` and `b2` lie in [0, 1).
    Source: Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853, algorithm 2.
    """
    return optax.contrib.scale_by_adopt(b1=b1, b2=b2, eps=eps, use_clipping=clipped)
