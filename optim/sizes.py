"""How large a rule's updates are: what a parametrization must know of it."""

from collections.abc import Callable
from typing import Literal

import jax
from jaxtyping import PyTree

from core.types import Config
from optim.rules.kinds import KINDS

# `rate`: each entry about 1, as Adam's. `gradient`: as large as the gradient, but for
# a number that all parameters share. `shape`: of the norm that moves the outputs of
# such a matrix alike, at every width. `rms`: that times the root of its larger side.
Size = Literal["rate", "gradient", "shape", "rms"]

AS_GRADIENT = ("gradient_descent", "sgd", "dog", "dowg")
# Of a norm of their own for each tensor or direction: how it grows is not known. Those
# of Scion suit every width as they are, in the standard parametrization.
UNKNOWN = ("lamb", "lars", "lbfgs", "novograd", "scion", "shampoo", "soap")


def sizes_of(rule: Config) -> Callable[[PyTree], PyTree]:
    """Parameters -> the size of each one's updates, under an `optim.rule` block.

    Raises:
      ValueError: the rule's are not known.
    """
    name = rule["name"]
    if name in UNKNOWN:
        raise ValueError(
            f"model.parametrization='mup' has no rates for optim.rule.name={name!r}, "
            f"nor for any of {', '.join(UNKNOWN)}."
        )
    hidden, rest = "rate", "rate"
    if name in AS_GRADIENT:
        hidden = rest = "gradient"
    elif name in ("muon", "normuon"):
        hidden = "rms" if rule.get("scale", "rms") == "rms" else "shape"
    return lambda params: jax.tree.map(
        lambda kind: hidden if kind == "hidden" else rest, KINDS(params)
    )
