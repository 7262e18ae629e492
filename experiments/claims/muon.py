"""Are Muon and SOAP in fewer steps where AdamW ends?

    python launch.py claims muon --workdir=runs/claims --config.data.folder=DIR

Question: each at the best of five rates, an octave apart, in how many steps do Muon
and SOAP come to the loss that AdamW has at its end, in pairs of seeds? They are read in
the middle of a cosine that has not ended, which is against them. Muon's rate is that of
all parameters (`scale="rms"`), so each method has one number to tune. Told beside, and
not judged: the same against an AdamW whose b2 and decay are tuned as well.
Cost: 135 runs of 400 steps, three programs.
Result: PASS. Muon needs 0.66 of AdamW's steps and SOAP 0.67; of an AdamW's whose b2
and decay are tuned, 0.66 and 0.69. docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=400)
    c.evaluate.every_steps = c.num_steps // 20
    c.optim.rule = dict(name="adamw", b1=0.9, b2=0.95, eps=1e-8)
    return c


def sweep():
    """Five rates of each method, and of AdamW three with two b2 and two decays."""
    rates = [2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2]
    soap = {"optim.rule.name": "soap", "optim.schedule.peak": rates}
    return dict(
        axes={
            "method": dict(
                blocks={
                    "adamw": {"optim.schedule.peak": rates},
                    "adamw, tuned": {
                        "optim.schedule.peak": [5e-3, 1e-2, 2e-2],
                        "optim.rule.b2": [0.9, 0.98],
                        "optim.decay": [0.03, 0.3],
                    },
                    "muon": {"optim.rule.name": "muon", "optim.schedule.peak": rates},
                    "soap": soap,
                }
            )
        },
        seeds=5,
    )


def claim():
    """Steps to AdamW's final loss, as a share of AdamW's."""
    return dict(
        finding="Muon and SOAP come to AdamW's final loss in 0.85 of its steps.",
        source="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; "
        "Vyas et al. 2024, https://arxiv.org/abs/2409.11321",
        tier="cpu",
        row=10,
        criterion=dict(
            name="steps_to_target",
            of="method",
            baseline="adamw",
            candidates=("muon", "soap"),
            share=0.85,
            beside=("adamw, tuned",),
        ),
    )
