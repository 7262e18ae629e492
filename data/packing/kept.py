"""What training keeps of pairs: those with text on both sides that are not too long."""

import numpy as np


def kept(
    blank_P: np.ndarray, length_P: np.ndarray, max_tokens: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Which of P pairs are kept, and how many are dropped for what.

    Raises:
      ValueError: none is kept.
    """
    long_P = length_P > max_tokens
    keep_P = ~(blank_P | long_P)
    if not keep_P.any():
        shortest = int(length_P[~blank_P].min())
        raise ValueError(
            f"packing.max_tokens={max_tokens} leaves nothing to train on: "
            f"the shortest pair has {shortest} tokens."
        )
    return keep_P, {
        "dropped_blank": int(blank_P.sum()),
        "dropped_long": int((long_P & ~blank_P).sum()),
    }
