"""Are the optimizers those of their papers, of optax and of PyTorch?

    python launch.py claims oracles --workdir=runs/claims

Question: over 60 to 200 steps, is each rule what its paper's formula, optax or PyTorch
gives, to 5e-6 in float32 or but for a departure that its docstring tells?
Cost: one call of pytest.
Result: PASS, 182 tests. docs/results/claims.md.
"""


def claim():
    """The tests that hold each rule against the outside."""
    return dict(
        finding="The optimizers are those of their papers and of other libraries.",
        source="the papers of each rule; optax; PyTorch",
        tier="cpu",
        row=4,
        criterion=dict(
            name="oracles",
            tests=(
                "tests/test_optim_reference.py",
                "tests/test_optim_adaptive.py",
                "tests/test_optim_around.py",
                "tests/test_optim_precondition.py",
                "tests/test_optim_tensors.py",
                "tests/test_optim_polar.py",
            ),
        ),
    )
