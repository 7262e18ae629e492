"""Is weight decay decoupled from the gradient, and L2 not?

    python launch.py claims decay --workdir=runs/claims

Question, by identities: without gradient, are weights w_0 times the product of
1 - rate decay; is Adam's first step under L2 alone the rate, whatever L2 is; and is a
run that of PyTorch's AdamW? That the best decay does not depend on the rate is not
claimed: at small budgets it did not reproduce.
Cost: one call of pytest.
Result: PASS, 14 tests. docs/results/claims.md.
"""

GRADIENT = "tests/test_optim_gradient.py"
REFERENCE = "tests/test_optim_reference.py"
SIGN = "test_the_first_step_of_adam_under_l2_alone_is_the_rate_whatever_l2_is"


def claim():
    """The identities, as the tests have them."""
    return dict(
        finding="Decoupled decay shrinks weights by the rate whatever the gradient, "
        "and L2 under Adam does not.",
        source="Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101",
        tier="cpu",
        row=7,
        criterion=dict(
            name="oracles",
            tests=(
                f"{GRADIENT}::test_without_gradient_decay_is_the_product_of_its_steps",
                f"{REFERENCE}::{SIGN}",
                f"{REFERENCE}::test_a_run_is_that_of_pytorch",
            ),
        ),
    )
