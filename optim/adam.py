"""Adam. AdamW is Adam with the chain's decoupled decay."""

import optax

from core.types import Number


def adam(
    *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> optax.GradientTransformation:
    """u <- m' / (sqrt(v') + eps), with bias-corrected running means m of g, v of g^2.

    m <- b1 m + (1 - b1) g,    m' = m / (1 - b1^t)
    v <- b2 v + (1 - b2) g^2,  v' = v / (1 - b2^t)

    t counts the updates taken, not the global step: the correction undoes the zeros
    that m and v began with. As in PyTorch `eps` stands outside the root and is added
    after the correction. In float32, 1 - b2^t at b2 = 0.999 is off by 1e-5 of itself,
    so the first steps by half of that. `b1` and `b2` lie in [0, 1).
    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1.
    """
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
