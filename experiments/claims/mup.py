"""Under muP, does the best learning rate stay where it was as the model grows wider?

    python launch.py claims mup --workdir=runs/claims --config.data.folder=DIR

Question: at three widths, an octave apart, where is the best of seven rates with the
standard parametrization and with muP, whose base is the narrowest? That transfer is not
superiority is seen beside: muP's own numbers are not tuned.
Cost: 126 runs of 200 steps, six programs; the wide ones take most of it.
Result: PASS. Over four times the width the best rate rises by an octave under muP, in
a near tie, and falls by three without. docs/results/claims.md.
"""

from ml_collections import ConfigDict

from experiments.claims import ground

WIDTHS = (32, 64, 128)


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    c = ground.config(text, num_steps=200, num_layers=2)
    c.model.embed = "unit"
    c.optim.schedule = dict(name="linear", peak=1e-2, warmup_steps=2)
    return c


def sweep():
    """Seven rates, an octave apart, at each width of both."""
    mup = {"model.base_width": WIDTHS[0], "model.base_head_width": WIDTHS[0] // 2}
    wide = {
        str(width): {"model.width": width, "model.mlp_width": 4 * width}
        for width in WIDTHS
    }
    rates = dict(log=(2e-3, 1.28e-1), points=7)
    return dict(
        axes={
            "model.parametrization": dict(choice={"standard": {}, "mup": mup}),
            "width": dict(blocks=wide),
            "optim.schedule.peak": rates,
        },
        seeds=3,
    )


def claim():
    """By how many octaves the best rate moves over four times the width."""
    return dict(
        finding="Under muP the best learning rate stays as the width grows fourfold, "
        "and with the standard parametrization it falls by two octaves.",
        source="Yang et al. 2022, https://arxiv.org/abs/2203.03466",
        tier="cpu",
        row=8,
        criterion=dict(
            name="transferred",
            of="model.parametrization",
            stays="mup",
            moves="standard",
            over="width",
            widths=tuple(map(str, WIDTHS)),
            along="optim.schedule.peak",
            max_octaves=1.0,
            min_octaves=2.0,
        ),
    )
