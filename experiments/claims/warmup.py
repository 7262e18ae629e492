"""Does a Transformer with norms behind the branches need warm-up, and one before not?

    python launch.py claims warmup --workdir=runs/claims --config.data.folder=DIR

Question: with Adam at a high rate, what does it cost to leave warm-up out, by where the
norms stand? Adam is plain, without clipping and decay.
At 1e-2, twice the rate, a warm-up of 75 steps was too short for post-norm to learn at
all (two seeds).
Cost: 20 runs of 300 steps, two programs.
Result: PASS. Without warm-up post-norm ends 0.98 nats higher, and pre-norm as with it.
docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=300, tiny_steps=80, num_layers=6)
    c.optim.update(clip_norm=float("inf"), decay=0.0)
    c.optim.rule = dict(name="adam", b1=0.9, b2=0.999, eps=1e-8)
    c.optim.schedule = dict(name="linear", peak=5e-3, warmup_steps=75)
    return c


def sweep():
    """Both places of the norms, without warm-up and with that of a quarter."""
    return dict(
        axes={
            "model.norm": ["post", "pre"],
            "optim.schedule.warmup_steps": [0, 75],
        },
        seeds=5,
    )


def claim():
    """What leaving warm-up out costs post-norm, beyond what it costs pre-norm."""
    return dict(
        finding="Post-norm needs warm-up at a high rate, and pre-norm hardly does.",
        source="Xiong et al. 2020, https://arxiv.org/abs/2002.04745",
        tier="cpu",
        row=5,
        criterion=dict(
            name="gap_of_gaps",
            of="model.norm",
            large="post",
            small="pre",
            along="optim.schedule.warmup_steps",
            floor=0.4,
            initial_loss=ground.INITIAL_LOSS,
        ),
    )
