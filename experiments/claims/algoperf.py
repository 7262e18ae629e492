"""Are AlgoPerf's published scores those of its public trials?

    python launch.py claims algoperf --workdir=runs/claims

Question: from the 4,359 trials of versions 0.5 and 0.6, by the rules of the benchmark,
do all 19 scores come out as published, to 4 decimals; and what do true times and an
exact integral change?
Cost: a second.
Result: 19 of 19 scores are equal to 4 decimals.
"""

EXTERNAL = {
    "shampoo_submission": 0.7784,
    "schedule_free_adamw": 0.7077,
    "generalized_adam": 0.6383,
    "cyclic_lr": 0.6301,
    "nadamp": 0.5909,
    "baseline": 0.5707,
    "amos": 0.4918,
    "caspr_adaptive": 0.4722,
    "lawa_queue": 0.3699,
    "lawa_ema": 0.3384,
    "schedule_free_prodigy": 0.0,
}
SELF = {
    "schedule_free_adamw": 0.8542,
    "baseline": 0.8194,
    "nadamw_sequential": 0.3308,
    "sinv6_75": 0.1420,
    "sinv6": 0.0903,
    "adamg": 0.0,
}
LATER = {"shampoo": 0.6244, "baseline": 0.4590}
BOARDS = {
    "algoperf_v05/external_tuning": EXTERNAL,
    "algoperf_v05/self_tuning": SELF,
    "algoperf_v06/external_tuning": LATER,
}


def claim():
    """The published scores, by version, ruleset and submission."""
    scores = {
        f"{b}/{name}": s for b, board in BOARDS.items() for name, s in board.items()
    }
    return dict(
        finding="AlgoPerf's published scores follow from its public trials.",
        source="Kasimbeg et al. 2025, https://arxiv.org/abs/2502.15015",
        tier="cpu",
        row=1,
        criterion=dict(
            name="algoperf",
            data="tests/golden/algoperf.csv.gz",
            names=tuple(scores),
            published=tuple(scores.values()),
        ),
    )
