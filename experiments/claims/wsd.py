"""Does one trunk with a cooldown for each budget do what a cosine for each does?

    python launch.py claims wsd --workdir=runs/claims --config.data.folder=DIR

Question: of 200, 400, 600 and 800 steps, is a run of constant rate that cools down over
its last fifth, all of them branches of one trunk, behind a cosine of that length, and
what do both cost? Each cosine is at the best of three rates, the trunk with all its
branches at one of the same three. The longest cosine is read at step 400, too.
Cost: 75 runs of 200 to 800 steps, 45 cooldowns of 40 to 120; two programs.
Result: FAIL, by one of six parts. The trunk's cooldowns are 0.014 to 0.021 nats better
than each cosine, for 52 % of the FLOPs; the long cosine, read early, is behind by
0.047 with an interval of 0.024 to 0.070. docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground

BUDGETS = (200, 400, 600, 800)  # steps


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=BUDGETS[-1], tiny_steps=BUDGETS[-1])
    c.optim.rule = dict(name="adamw", b1=0.9, b2=0.95, eps=1e-8)
    return c


def sweep():
    """Three rates of a cosine for each budget, and of the trunk, the longest run."""
    rates = [3e-3, 1e-2, 3e-2]
    words = {
        f"cosine {steps}": {"num_steps": steps, "optim.schedule.peak": rates}
        for steps in BUDGETS
    }
    words[f"cosine {BUDGETS[-1]}"] |= {"evaluate.every_steps": BUDGETS[1]}
    words["wsd"] = {
        "num_steps": BUDGETS[-1],
        "optim.schedule.name": "wsd",
        "optim.schedule.decay_steps": BUDGETS[-1] // 5,
        "optim.schedule.peak": rates,
        "checkpoint.every_steps": 4 * BUDGETS[0] // 5,
        "checkpoint.keep": len(BUDGETS) + 1,
    }
    return dict(axes={"method": dict(blocks=words)}, seeds=5)


def branches():
    """A cooldown over the last fifth of each budget, from the trunk's checkpoint."""
    forks = [
        {
            "step": 4 * steps // 5,
            "num_steps": steps,
            "optim.schedule.decay_steps": steps // 5,
        }
        for steps in BUDGETS[:-1]
    ]
    return dict(of="method", word="wsd", forks=forks)


def claim():
    """How far the trunk's branches are behind, and what they cost."""
    return dict(
        finding="One trunk with cooldowns is no worse than a tuned cosine for each "
        "budget, at 60 % of the FLOPs; a longer cosine read early is 0.05 nats worse.",
        source="Hägele et al. 2024, https://arxiv.org/abs/2405.18392",
        tier="cpu",
        row=11,
        criterion=dict(
            name="cooled",
            of="method",
            separate=tuple(f"cosine {steps}" for steps in BUDGETS),
            trunk="wsd",
            budgets=BUDGETS,
            margin=0.02,
            max_cost_share=0.6,
            read_at=BUDGETS[1],
            early_floor=0.05,
        ),
    )
