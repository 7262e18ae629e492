"""Under muP, does a step change the logits alike at every width?

    python launch.py claims coordinates --workdir=runs/claims

Question: the slope of the change of the logits in three steps of Adam over the width,
both as logarithms: below 0.05 under muP, above 0.2 without. The tests train the models
and measure it; the claim tells what they say.
Cost: one call of pytest.
Result: PASS, 12 tests. docs/results/claims.md.
"""


def claim():
    """The coordinate check, as the tests have it."""
    return dict(
        finding="Under muP a step changes the logits alike at every width.",
        source="Yang et al. 2022, https://arxiv.org/abs/2203.03466, section 8",
        tier="cpu",
        row=8,
        criterion=dict(
            name="oracles",
            tests=("tests/test_parametrization.py",),
        ),
    )
