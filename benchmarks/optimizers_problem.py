"""What the contestants of `optimizers.py` move: sizes, numbers, files. Needs numpy.

The gradients are those of a decoder at its start, one for each of a few batches, taken
again and again: what a rule costs does not depend on them, but for an iteration that
ends by a tolerance, and for that they are real ones.
"""

import pathlib

import numpy as np

VOCAB, WIDTH, NUM_HEADS, NUM_LAYERS, MLP_WIDTH = 512, 320, 5, 8, 1_280
NUM_ROWS, LENGTH = 8, 256
PIECES, CHUNK = 2, 32
NUM_BATCHES = 4
FIRST_STEPS = 3  # before the race, of each; fewer than batches

RATE, DECAY = 1e-3, 0.01
SAM_RADIUS = 0.05

# Words of the rules that race other libraries. With this block 1,280 and 512 are cut
# alike by those who fill the last block and by those who make blocks equal.
RIVALS = {
    "soap": dict(name="soap", b1=0.95, b2=0.95, b3=0.95, eps=1e-8, every_steps=10),
    "shampoo": dict(name="shampoo", b1=0.9, b2=0.999, every_steps=10, block=640),
    "mars": dict(name="mars", b1=0.95, b2=0.99, eps=1e-8, gamma=0.025),
    "muon": dict(name="muon", momentum=0.95, steps=5, aux_b1=0.9, aux_b2=0.95),
}


def batches() -> list[dict[str, np.ndarray]]:
    """Full rows of random tokens, and what follows each.

    >>> batches()[0]["input_BL"].shape
    (8, 256)
    """
    random = np.random.Generator(np.random.PCG64(0))
    made = []
    for _ in range(NUM_BATCHES):
        token_BL = random.integers(4, VOCAB, (NUM_ROWS, LENGTH + 1), np.int32)
        batch = dict(input_BL=token_BL[:, :-1], target_BL=token_BL[:, 1:])
        made.append(batch | {"segment_BL": np.ones_like(batch["input_BL"])})
    return made


def save(folder: str, gradients: list[list[np.ndarray]]) -> None:
    """Writes a list of leaves for each batch."""
    for number, leaves in enumerate(gradients):
        np.savez(pathlib.Path(folder) / f"{number}.npz", *leaves)


def load(folder: str) -> list[list[np.ndarray]]:
    """What `save` wrote."""
    found = []
    for number in range(NUM_BATCHES):
        with np.load(pathlib.Path(folder) / f"{number}.npz") as file:
            found.append([file[f"arr_{i}"] for i in range(len(file.files))])
    return found
