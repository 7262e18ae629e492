"""Gradient descent, without and with momentum."""

import optax

from core.numbers import off
from core.types import Number


def gradient_descent() -> optax.GradientTransformation:
    """u <- g. Stochastic when the batch is. Keeps no state.

    Source: Robbins & Monro 1951, https://doi.org/10.1214/aoms/1177729586.
    """
    return optax.identity()


def sgd(
    *, momentum: Number = 0.9, nesterov: bool = False
) -> optax.GradientTransformation:
    """m <- momentum m + g;  u <- m, or with `nesterov` u <- g + momentum m.

    As in PyTorch without dampening: g enters whole, so at rest the step is
    1 / (1 - momentum) times that of gradient descent, and the rate lies outside m.
    Without momentum it is gradient descent and keeps no state.
    `momentum` lies in [0, 1).
    Source: Polyak 1964, https://doi.org/10.1016/0041-5553(64)90137-5; Nesterov's in the
    form of Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html,
    equations 1 to 4, with parameters stored at the point looked ahead to.
    """
    if off(momentum, 0.0):
        return gradient_descent()
    return optax.trace(momentum, nesterov=nesterov)
