"""Nothing around the chain."""

import optax


def none(
    *, tx: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """The chain as it is."""
    return tx
