"""Criteria: when is a finding confirmed. A new one is a function and a line here.

A criterion is a pure function of what was run and of the claim's numbers. What it
asks for by name it is given: `runs`, those of the claim's sweep; `root`, the folder of
the checkout; `folder`, the claim's own; `overrides`, those typed.
"""

from core.registry import Block, Entry, Range
from study.claims import compared, cooled, fixed, searched, small, transfer

GIVEN = ("runs", "root", "folder", "overrides")

AMOUNT = Range("[0, inf)")
ABOVE_ZERO = Range("(0, inf)")
ABOVE_ONE = Range("[1, inf)")
SHARE = Range("(0, 1)")
COUNT = Range("[1, inf)")

CRITERIA = {
    "gap_of_gaps": Entry(
        compared.gap_of_gaps,
        "Xiong et al. 2020, https://arxiv.org/abs/2002.04745",
        {"floor": AMOUNT, "initial_loss": ABOVE_ZERO},
    ),
    "sensitivity": Entry(
        compared.sensitivity,
        "Wortsman et al. 2023, https://arxiv.org/abs/2309.14322",
        {
            "ratio": ABOVE_ONE,
            "at": ABOVE_ZERO,
            "score_ratio": ABOVE_ONE,
            "initial_loss": ABOVE_ZERO,
        },
    ),
    "steps_to_target": Entry(
        compared.steps_to_target,
        "Dahl et al. 2023, https://arxiv.org/abs/2306.07179, section 4",
        {"share": SHARE},
    ),
    "no_worse": Entry(compared.no_worse, "", {"margins": AMOUNT}),
    "cooled": Entry(
        cooled.cooled,
        "Hägele et al. 2024, https://arxiv.org/abs/2405.18392",
        {
            "budgets": COUNT,
            "margin": AMOUNT,
            "max_cost_share": SHARE,
            "read_at": COUNT,
            "early_floor": AMOUNT,
        },
    ),
    "regularized": Entry(
        small.regularized, "Page 1963", {"floor": AMOUNT, "alpha": SHARE}
    ),
    "replayed": Entry(
        searched.replayed,
        "Jamieson & Talwalkar 2016, https://arxiv.org/abs/1502.07943",
        {
            "num_replays": COUNT,
            "num_trials": COUNT,
            "factor": Range("[2, inf)"),
            "num_rungs": COUNT,
            "max_gap": AMOUNT,
            "max_cost_share": SHARE,
        },
    ),
    "transferred": Entry(
        transfer.transferred,
        "Yang et al. 2022, https://arxiv.org/abs/2203.03466",
        {"max_octaves": AMOUNT, "min_octaves": AMOUNT},
    ),
    "algoperf": Entry(
        fixed.algoperf,
        "Kasimbeg et al. 2025, https://arxiv.org/abs/2502.15015",
        {"published": AMOUNT},
    ),
    "sparse_law": Entry(
        fixed.sparse_law,
        "Frantar et al. 2023, https://arxiv.org/abs/2309.08520",
        {
            "num_dense": ABOVE_ZERO,
            "tokens_per_step": ABOVE_ZERO,
            "max_objective": ABOVE_ZERO,
            "published": ABOVE_ZERO,
        },
    ),
    "oracles": Entry(fixed.oracles, ""),
    "same_curve": Entry(
        fixed.same_curve, "", {"num_devices": COUNT, "max_relative": AMOUNT}
    ),
}

BLOCK = Block(CRITERIA, given=GIVEN)
