"""Rules whose update is a sign: every coordinate moves by the rate, or not at all."""

import optax

from core.types import Number
from optim.rules import descent


def signum(
    *, momentum: Number = 0.9, nesterov: bool = False
) -> optax.GradientTransformation:
    """u <- sign(m), with the m of SGD:  m <- momentum m + g

    A running mean of g, which the paper has, is m (1 - momentum) and has its sign.
    Without momentum it is sign descent, which keeps no state. Where m is zero u is, so
    no gradient is no step. `momentum` lies in [0, 1).
    Source: Bernstein et al. 2018, https://arxiv.org/abs/1802.04434, algorithm 1.
    """
    mean = descent.sgd(momentum=momentum, nesterov=nesterov)
    return optax.chain(mean, optax.scale_by_sign())


def lion(*, b1: Number = 0.9, b2: Number = 0.99) -> optax.GradientTransformation:
    """u <- sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g

    The sign sees more of this gradient than m will. Steps are larger than Adam's: the
    authors divide the rate by 3 to 10 and multiply the decay by as much.
    `b1` and `b2` lie in [0, 1).
    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675, algorithm 2.
    """
    return optax.scale_by_lion(b1=b1, b2=b2)
