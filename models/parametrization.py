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


def rates(model: Settings) -> Callable[..., PyTree] | None:
    """Parameters -> a factor of the learning rate for each; None where all are 1.

    base width / width for what sums over a width, 1 for the rest, under rules that
    give updates of the size of their rate, as Adam does; `raw=True`, under rules whose
    updates are as large as the gradient, width / base width times that.
    """
    if model.parametrization == "standard":
        return None
    shrink = model.shrink

    def of(params: PyTree, *, raw: bool) -> PyTree:
        return jax.tree.map(
            lambda inputs: (
                (shrink if WIDE & set(inputs) else 1.0) / (shrink if raw else 1.0)
            ),
            inputs_of(params),
        )

    return of
