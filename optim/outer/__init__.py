"""What is around the chain: other points than where it walks.

A new one is a function in a file here and a line in OUTER: from the chain `tx`, whose
updates are the whole step of the parameters, to another such.
"""

from core.registry import Entry, Note, Range
from optim.outer import lookahead, nesterov, none, schedule_free

COUNT = Range("[1, 2147483647]")

PROOF = Note("tests/test_optim_around.py")

OUTER = {
    "none": Entry(none.none, ""),
    "lookahead": Entry(
        lookahead.lookahead,
        "Zhang et al. 2019, https://arxiv.org/abs/1907.08610",
        {"every_steps": COUNT, "share": Range("(0, 1]")},
        note=PROOF,
    ),
    "nesterov": Entry(
        nesterov.nesterov,
        "Douillard et al. 2023, https://arxiv.org/abs/2311.08105",
        {
            "every_steps": COUNT,
            "rate": Range("(0, inf)"),
            "momentum": Range("[0, 1)", neutral=0.0),
        },
        note=PROOF,
    ),
    "schedule_free": Entry(
        schedule_free.schedule_free,
        "Defazio et al. 2024, https://arxiv.org/abs/2405.15682",
        {
            "b": Range("(0, 1)"),
            "rate_power": Range("[0, inf)"),
            "step_power": Range("[0, inf)", neutral=0.0),
        },
        note=PROOF,
    ),
}
