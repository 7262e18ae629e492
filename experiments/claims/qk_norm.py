"""Does a norm of queries and keys make the learning rate matter less?

    python launch.py claims qk_norm --workdir=runs/claims --config.data.folder=DIR

Question: over two and a half decades of rates, how much do wrong ones cost with the
norm and without, and how large do the scores of attention grow at a high rate?
Cost: 60 runs of 300 steps, two programs.
Result: FAIL. Wrong rates cost 2.17 times less, of which the interval is 1.99 to 2.36;
scores at a rate of 0.1 are 99 times smaller. docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=300)
    c.measure = dict(attention=True)
    return c


def sweep():
    """With the norm and without, at rates half a decade apart."""
    return dict(
        axes={
            "model.qk_norm": [False, True],
            "optim.schedule.peak": [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1],
        },
        seeds=5,
    )


def claim():
    """How many times less a wrong rate costs, and how many times less scores grow."""
    return dict(
        finding="A norm of queries and keys halves what wrong learning rates cost, "
        "for the scores of attention stay small.",
        source="Wortsman et al. 2023, https://arxiv.org/abs/2309.14322",
        tier="cpu",
        row=6,
        criterion=dict(
            name="sensitivity",
            of="model.qk_norm",
            baseline="false",
            candidate="true",
            along="optim.schedule.peak",
            ratio=2.0,
            score="attention_logit",
            at=0.1,
            score_ratio=50.0,
            initial_loss=ground.INITIAL_LOSS,
        ),
    )
