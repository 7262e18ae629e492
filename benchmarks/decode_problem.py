"""What the contestants of `decode.py` answer: how much, and to which texts."""

import numpy as np
from problem import EOS, FIRST_WORD, NUM_ROWS, VOCAB

NEW = 32  # tokens of an answer; random weights end none before
LENGTH = 64  # tokens of a source with its end, or of a prompt with its start
NUM_BATCHES = 4
NUM_DECODER_LAYERS = 6  # of the model without an encoder
BEAMS = (1, 4)
FAMILIES = ("translation", "language")


def texts() -> list[np.ndarray]:
    """Full rows of random words, without their end or start.

    >>> texts()[0].shape
    (32, 63)
    """
    random = np.random.Generator(np.random.PCG64(0))
    shape = NUM_ROWS, LENGTH - 1
    return [random.integers(FIRST_WORD, VOCAB, shape) for _ in range(NUM_BATCHES)]


def ended(text_BM: np.ndarray) -> np.ndarray:
    """Sources, as an encoder reads them."""
    return np.pad(text_BM, ((0, 0), (0, 1)), constant_values=EOS)
