"""What every contestant trains: the sizes, the optimizer's numbers, and the batches."""

import numpy as np

WIDTH = 256
MLP_WIDTH = 1024
NUM_HEADS = 4
NUM_LAYERS = 4  # of the encoder, and of the decoder
VOCAB = 8000
NUM_ROWS = 32  # a batch
LENGTH = 64  # of the source, and of the target; there is no padding
TOKENS_PER_STEP = NUM_ROWS * 2 * LENGTH

RATE, B1, B2, EPS, DECAY = 5e-4, 0.9, 0.999, 1e-8, 0.01

EOS, FIRST_WORD = 1, 4  # 0 pads, 2 is unknown, 3 starts the decoder
NUM_BATCHES = 4

GEMM_SIZE = 2048  # of the square float32 matrices whose product shows the peak


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (source_BM, target_BL) of full rows; each ends with EOS.

    Words are as frequent as Zipf says, and the target is the source backwards, so there
    is something to learn from the first step on.

    >>> source_BM, target_BL = batches()[0]
    >>> source_BM.shape, bool((source_BM[:, -1] == EOS).all())
    ((32, 64), True)
    """
    random = np.random.Generator(np.random.PCG64(0))
    share_V = 1.0 / np.arange(1, VOCAB - FIRST_WORD + 1)
    made = []
    for _ in range(NUM_BATCHES):
        words_BM = random.choice(
            len(share_V), size=(NUM_ROWS, LENGTH - 1), p=share_V / share_V.sum()
        )
        words_BM = words_BM + FIRST_WORD
        end_B1 = np.full((NUM_ROWS, 1), EOS)
        source_BM = np.concatenate([words_BM, end_B1], 1)
        target_BL = np.concatenate([words_BM[:, ::-1], end_B1], 1)
        made.append((source_BM, target_BL))
    return made
