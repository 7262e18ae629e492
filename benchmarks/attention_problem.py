"""What the contestants of `attention.py` compute: sizes, inputs. Needs numpy only."""

import numpy as np

NUM_HEADS, HEAD_WIDTH = 8, 64
LENGTHS = {256: 16, 1024: 4, 4096: 1}  # of a row, and rows of it: as many tokens


def arrays(length: int) -> list[np.ndarray]:
    """Queries, scaled; keys, values, and what the gradient is taken along.

    >>> arrays(256)[0].shape
    (16, 256, 8, 64)
    """
    shape = (LENGTHS[length], length, NUM_HEADS, HEAD_WIDTH)
    random = np.random.Generator(np.random.PCG64(0))
    made = [random.standard_normal(shape, np.float32) for _ in range(4)]
    made[0] /= HEAD_WIDTH**0.5
    return made
