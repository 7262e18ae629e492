"""Is the loss of a linear optimizer on a noisy quadratic what theory says?

    python launch.py claims quadratic --workdir=runs/claims

Question: is the exact expected loss of each linear chain that of its paper's formula,
and the mean of 20,000 runs within 4 standard errors at every step; do larger batches
save steps up to a critical size and not beyond? The fit of a hyperbola to that curve,
and the critical size by the noise scale, are not judged yet.
Cost: one call of pytest.
Result: PASS, 42 tests. docs/results/claims.md.
"""


def claim():
    """The tests of the noisy quadratic."""
    return dict(
        finding="On a noisy quadratic, linear optimizers have the loss that theory "
        "says, and batches save steps up to a critical size.",
        source="Zhang et al. 2019, https://arxiv.org/abs/1907.04164; McCandlish et al. "
        "2018, https://arxiv.org/abs/1812.06162",
        tier="cpu",
        row=3,
        criterion=dict(name="oracles", tests=("tests/test_optim_linear.py",)),
    )
