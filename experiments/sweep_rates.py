"""Learning rate and decay of the character LM: a sweep of 64 points in one program.

    python launch.py sweep --config=experiments/sweep_rates.py --workdir=runs/rates \
        --config.data.folder=DIR

Question: which learning rate and decay suit 150 steps, and is that more than seeds do?
Cost: some 95 seconds on two cores, docs/results/sweep.md.
Result: of 2 seeds 0.0072 is the best rate, at 2.32 nats [2.17, 2.47]; decays of 0 and
0.03 do not differ.
"""

from ml_collections import ConfigDict

from experiments import shakespeare


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = shakespeare.get_config(text)
    if "tiny" not in text:
        c.num_steps = 150
        # A trial is validated and kept once, at its end.
        c.evaluate.every_steps = 0
        c.checkpoint.every_steps = 1000
    return c


def sweep() -> dict:
    """8 rates, 4 decays, 2 seeds."""
    return dict(
        axes={
            "optim.schedule.peak": dict(log=(1e-3, 1e-1), points=8),
            "optim.decay": [0.0, 0.03, 0.1, 0.3],
        },
        seeds=2,
    )
