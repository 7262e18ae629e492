"""Is training without a schedule, or without a rate, as good as a tuned cosine?

    python launch.py claims schedule_free --workdir=runs/claims --config.data.folder=DIR

Question: at the best of its rates, how far is Schedule-Free AdamW behind AdamW with a
cosine at the best of its own; and how far Prodigy, which is given none and has no
decay?
Cost: 55 runs of 400 steps, three programs.
Result: FAIL, by Prodigy. Schedule-Free is 0.06 nats better than the cosine, and Prodigy
behind by 0.042, of which the interval is 0.022 to 0.061. docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=400)
    c.optim.rule = dict(name="adamw", b1=0.9, b2=0.95, eps=1e-8)
    return c


def sweep():
    """Five rates of each that has one, Schedule-Free's an octave up; Prodigy at 1."""
    rates = [2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2]
    return dict(
        axes={
            "method": dict(
                blocks={
                    "cosine": {"optim.schedule.peak": rates},
                    "schedule-free": {
                        "optim.schedule.name": "constant",
                        "optim.outer.name": "schedule_free",
                        "optim.rule.b1": 0.0,
                        "optim.schedule.peak": [2 * rate for rate in rates],
                    },
                    "prodigy": {
                        "optim.rule.name": "prodigy",
                        "optim.rule.b2": 0.999,
                        "optim.schedule.peak": 1.0,
                        "optim.schedule.warmup_steps": 0,
                        # Decay goes by the rate of the schedule, which is 1 here.
                        "optim.decay": 0.0,
                    },
                }
            )
        },
        seeds=5,
    )


def claim():
    """How far both are behind the cosine."""
    return dict(
        finding="Schedule-Free AdamW is within 0.02 nats of a tuned cosine, and "
        "Prodigy within 0.05 without a rate.",
        source="Defazio et al. 2024, https://arxiv.org/abs/2405.15682; Mishchenko & "
        "Defazio 2023, https://arxiv.org/abs/2306.06101",
        tier="cpu",
        row=17,
        criterion=dict(
            name="no_worse",
            of="method",
            baseline="cosine",
            candidates=("schedule-free", "prodigy"),
            margins=(0.02, 0.05),
            along="optim.schedule.peak",
        ),
    )
