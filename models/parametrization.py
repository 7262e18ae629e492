"""muP: learning rates of each tensor, such that those of a narrow model fit a wide one.

Source: Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 8. The other parts of
the parametrization stand where they act: 1/K attention in `models/attention.py`, the
readout's factor and initialisation in `models/embedding.py`.
"""

from collections.abc import Callable

import jax
from jaxtyping import PyTree

from core.axes import inputs_of
from models.settings import Settings

WIDE = set("DHGKF")  # axes that grow with the width


def rates(model: Settings) -> Callable[[PyTree, PyTree], PyTree] | None:
    """Parameters and the sizes of their updates -> a factor of the rate for each.

    None where all are 1. Sizes are those of `optim/sizes.py`. With s for base width /
    width, s is the factor of what sums over a width, and 1 that of the rest, where
    updates are of the size of their rate, as Adam's are; where they are as large as the
    gradient, 1/s times that; where each matrix gets what suits its shape, 1; and where
    that is times the root of its side, as Muon's of one RMS are, the root of s.
    """
    if model.parametrization == "standard":
        return None
    shrink = model.shrink

    def factor(inputs, size):
        wide = bool(WIDE & set(inputs))
        if size == "gradient":
            return 1.0 if wide else 1 / shrink
        power = {"rate": 1.0, "rms": 0.5, "shape": 0.0}[size]
        return shrink**power if wide else 1.0

    def of(params: PyTree, sizes: PyTree) -> PyTree:
        return jax.tree.map(factor, inputs_of(params), sizes)

    return of
