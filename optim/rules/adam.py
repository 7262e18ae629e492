"""Adam and the rules that change one thing of it. AdamW is Adam with the chain's decay.

In all of them t counts the updates taken, not the global step: a correction by t undoes
the zeros that the means began with. `eps` stands outside the root and is added after
the correction, as in PyTorch's Adam, so the rules differ in what they change alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from core.types import Number


def adam(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> optax.GradientTransformation:
    """u <- m' / (sqrt(v') + eps), with bias-corrected running means m of g, v of g^2.

    m <- b1 m + (1 - b1) g,    m' = m / (1 - b1^t)
    v <- b2 v + (1 - b2) g^2,  v' = v / (1 - b2^t)

    In float32, 1 - b2^t at b2 = 0.999 is off by 1e-5 of itself, so the first steps by
    half of that. `b1` and `b2` lie in [0, 1).
    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1.
    """
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def nadam(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> optax.GradientTransformation:
    """Adam that looks one step of its momentum ahead:

    m' = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)

    b1 is constant. PyTorch's NAdam has Dozat's schedule for it, b1 (1 - 0.96^(0.004 t)
    / 2), which begins at b1 / 2 and is 0.9 b1 after ten thousand steps; the two are the
    same at `momentum_decay=1e9` there. Dozat's algorithm 2 has b2 v' in the root; here
    it is Adam's v', as it is everywhere else. With the chain's decay it is NAdamW.
    `b1` and `b2` lie in [0, 1).
    Source: Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
    """
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=True)


def amsgrad(
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    corrected: bool = True,
) -> optax.GradientTransformation:
    """Adam whose denominator never falls:  u <- m' / (sqrt(top) + eps)

    top <- max(top, v')

    So a coordinate's step does not grow again after its gradients have become small. Of
    the three in use this is Optax's: the maximum of v' as corrected. PyTorch's is
    that of v, corrected afterwards, so it falls early on. The paper corrects neither v
    nor m: that is `corrected` at False. `b1` and `b2` lie in [0, 1).
    Source: Reddi et al. 2018, https://arxiv.org/abs/1904.09237, algorithm 2.
    """
    return optax.scale_by_amsgrad(
        b1=b1,
        b2=b2,
        eps=eps,
        bias_correction_mu=corrected,
        bias_correction_nu=corrected,
    )


def adamax(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> optax.GradientTransformation:
    """Adam with a running maximum in place of the root:  u <- m' / top

    top <- max(b2 top, |g| + eps)

    The maximum needs no correction: it does not begin too small. `eps` stands where
    PyTorch has it; the paper has none. `b1` and `b2` lie in [0, 1).
    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 2.
    """
    return optax.scale_by_adamax(b1=b1, b2=b2, eps=eps)


class Rectified(NamedTuple):
    """Adam's means and their number; the sums over k < t of b2^k and (k + 1) b2^k."""

    mu: PyTree
    nu: PyTree
    num_updates: Array
    weight: Array
    reach: Array


def radam(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> optax.GradientTransformation:
    """Adam with a warmup of its own, as long as v rests on few gradients.

    u <- m' r / (sqrt(v') + eps)  where n > 5,  else  u <- m'
    r^2 = (n - 4) (n - 2) N / ((N - 4) (N - 2) n)

    n is the length of the plain average which is as old as v, N that at t = infinity.
    n = N - 2 t b2^t / (1 - b2^t) is the difference of two numbers near 2 / (1 - b2). In
    float32 it is off by 0.03 at b2 = 0.999 and by 3 at 0.9999, where Optax's rule takes
    the root at t = 2. So n comes from two sums here, 2 reach / weight - 1, good to the
    last digits. The bound is 5, as in PyTorch and the authors' code; the paper has 4.
    As long as n is below it, u is as large as the gradient: five steps at b2 = 0.999,
    and all of them at b2 <= 2 / 3. `b1` and `b2` lie in [0, 1).
    Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265, algorithm 2.
    """
    limit = (1 + b2) / (1 - b2)

    def init(params):
        means = optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        return Rectified(*means, jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros(()))

    def update(updates, state, params=None):
        del params
        num_updates = state.num_updates + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        weight = 1 + b2 * state.weight
        reach = weight + b2 * state.reach
        length = 2 * reach / weight - 1
        square = (length - 4) * (length - 2) * limit
        square = square / ((limit - 4) * (limit - 2) * length)
        share = jnp.sqrt(jnp.maximum(square, 0))

        def choose(m, v):
            adapted = share.astype(m.dtype) * m / (jnp.sqrt(v) + eps)
            return jnp.where(length > 5, adapted, m)

        new = jax.tree.map(
            choose,
            optax.tree.bias_correction(mu, b1, num_updates),
            optax.tree.bias_correction(nu, b2, num_updates),
        )
        return new, Rectified(mu, nu, num_updates, weight, reach)

    return optax.GradientTransformation(init, update)
