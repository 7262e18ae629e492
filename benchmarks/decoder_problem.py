"""What the contestants of `decoders.py` compute: sizes and batches, by numpy alone."""

import numpy as np

VOCAB, WIDTH, NUM_HEADS, NUM_LAYERS, MLP_WIDTH = 8_000, 256, 4, 6, 1_024
LENGTHS = {256: 16, 1024: 4}  # of a row, and rows of it: as many tokens
NUM_BATCHES = 4


def tokens_of(length: int) -> int:
    """Of a batch."""
    return length * LENGTHS[length]


def batches(length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Full rows of random tokens, and what follows each.

    >>> batches(256)[0][0].shape
    (16, 256)
    """
    random = np.random.Generator(np.random.PCG64(0))
    made = []
    for _ in range(NUM_BATCHES):
        token_BL = random.integers(4, VOCAB, (LENGTHS[length], length + 1))
        made.append((token_BL[:, :-1], token_BL[:, 1:]))
    return made
