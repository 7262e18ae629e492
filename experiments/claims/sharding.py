"""Does the number of devices change what is learned?

    python launch.py claims sharding --workdir=runs/claims --config.data.folder=DIR

Question: with the same seed, is the loss of each of 20 steps the same on 1, 2, 4 and 8
virtual devices of the CPU, to 1e-5 of itself?
Cost: 4 runs of 20 steps, each a process with a program of its own.
Result: PASS. Losses differ by up to 3.2e-7 of themselves. docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=20)
    c.optim.schedule.warmup_steps = 2
    c.log_every = 1
    return c


def claim():
    """The largest difference of a loss from that on one device."""
    return dict(
        finding="The number of devices does not change what is learned.",
        source="design of data parallelism: a batch is split, its sum is not",
        tier="cpu",
        row=25,
        criterion=dict(
            name="same_curve",
            config="experiments/claims/sharding.py",
            num_devices=(1, 2, 4, 8),
            max_relative=1e-5,
        ),
    )
