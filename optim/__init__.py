"""Optimizers: one chain of Optax transformations, each link a word of the config."""

from optim.average import AVERAGES, averages_in, eval_params
from optim.chain import OPTIM, make
from optim.constrain import CONSTRAIN
from optim.gradient import GRADIENT
from optim.outer import OUTER
from optim.plateau import PLATEAU, rate_at
from optim.rules import RULES
from optim.schedules import SCHEDULES, SHARES

__all__ = [
    "AVERAGES",
    "CONSTRAIN",
    "GRADIENT",
    "OPTIM",
    "OUTER",
    "PLATEAU",
    "RULES",
    "SCHEDULES",
    "SHARES",
    "averages_in",
    "eval_params",
    "make",
    "rate_at",
]
