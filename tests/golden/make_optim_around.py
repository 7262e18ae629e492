"""Makes optim_around.npz: outer steps and averages as their authors' code does them.

    pip install torch==2.13.0 schedulefree==1.4.1
    python tests/golden/make_optim_around.py

In float64, on the problem of make_optim.py and at a constant rate. Schedule-Free is the
authors' package, after a warm-up of WARMUP steps; the outer step of DiLoCo is torch's
SGD on where its AdamW led in EVERY steps; the averages are those of torch's swa_utils,
over a run of its Adam. `bias` is never decayed. Every fourth point of a path is kept,
the first and the last among them.
"""

import pathlib

import numpy as np
import schedulefree
import torch
from make_optim import EVERY_STEPS, NUM_STEPS, SHAPES, problem
from torch.optim import swa_utils

PEAK = 0.02
WARMUP = 10
EVERY = 8
DECAY = 0.9
SWA_START, SWA_EVERY = 16, 4
BETAS = dict(betas=(0.9, 0.999), eps=1e-8)
FREE = {
    "free_adamw": ("AdamWScheduleFree", dict(BETAS, lr=PEAK, weight_decay=0.3)),
    "free_sgd": ("SGDScheduleFree", dict(lr=0.1, momentum=0.9)),
    "free_powers": (
        "AdamWScheduleFree",
        dict(lr=PEAK, betas=(0.8, 0.95), eps=1e-8, r=1.0, weight_lr_power=1.0),
    ),
}


class Walk:
    """Parameters of the problem, their gradients, and the points they passed."""

    def __init__(self):
        self.given = {
            k: torch.tensor(x, dtype=torch.float64) for k, x in problem().items()
        }
        start = {
            n: torch.nn.Parameter(self.given[f"start/{n}"].clone()) for n in SHAPES
        }
        self.params = torch.nn.ParameterDict(start)
        self.points = {}

    def groups(self) -> list[dict]:
        """As an optimizer takes them: no decay for `bias`."""
        kernels = [self.params["key"], self.params["in"]]
        return [
            dict(params=kernels),
            dict(params=[self.params["bias"]], weight_decay=0.0),
        ]

    def differentiate(self, step: int):
        """Puts the gradients of a step in their places."""
        for name, p in self.params.items():
            w = p.detach()
            pull = self.given[f"curve/{name}"] * (w - self.given[f"goal/{name}"])
            p.grad = pull + 0.3 * torch.sin(2 * w) + self.given[f"noise/{name}"][step]

    def keep(self, kind: str, params: torch.nn.ParameterDict):
        """Remembers where they are."""
        for name, p in params.items():
            self.points.setdefault(f"{kind}/{name}", []).append(
                p.detach().numpy().copy()
            )

    def arrays(self) -> dict[str, np.ndarray]:
        """Every fourth point."""
        return {k: np.stack(points[::EVERY_STEPS]) for k, points in self.points.items()}


def schedule_free(case: str) -> dict[str, np.ndarray]:
    """Where the gradient is taken, and what is evaluated."""
    kind, options = FREE[case]
    walk = Walk()
    optimizer = getattr(schedulefree, kind)(
        walk.groups(), warmup_steps=WARMUP, **options
    )
    for step in range(NUM_STEPS + 1):
        optimizer.eval()
        walk.keep(f"{case}/average", walk.params)
        optimizer.train()
        walk.keep(case, walk.params)
        if step < NUM_STEPS:
            walk.differentiate(step)
            optimizer.step()
    return walk.arrays()


def diloco() -> dict[str, np.ndarray]:
    """Parameters within and between outer steps."""
    walk = Walk()
    start = {n: torch.nn.Parameter(p.detach().clone()) for n, p in walk.params.items()}
    # Not 0.999, from which float32 is off by 1e-5, and the outer step seven times that.
    betas = dict(betas=(0.9, 0.95), eps=1e-8)
    inner = torch.optim.AdamW(walk.groups(), lr=PEAK, weight_decay=0.3, **betas)
    outer = torch.optim.SGD(start.values(), lr=0.7, momentum=0.9, nesterov=True)
    walk.keep("diloco", walk.params)
    for step in range(NUM_STEPS):
        walk.differentiate(step)
        inner.step()
        if (step + 1) % EVERY == 0:
            for name, p in walk.params.items():
                start[name].grad = start[name].detach() - p.detach()
            outer.step()
            for name, p in walk.params.items():
                p.data.copy_(start[name].detach())
        walk.keep("diloco", walk.params)
    return walk.arrays()


def averages() -> dict[str, np.ndarray]:
    """The averages after each step; before there is one, the parameters."""
    walk = Walk()
    adam = torch.optim.Adam(walk.groups(), lr=PEAK, **BETAS)
    ema_of = swa_utils.get_ema_multi_avg_fn(DECAY)
    ema = swa_utils.AveragedModel(walk.params, multi_avg_fn=ema_of)
    swa = swa_utils.AveragedModel(walk.params)
    for kind in ("adam", "ema", "swa"):
        walk.keep(kind, walk.params)
    for step in range(NUM_STEPS):
        walk.differentiate(step)
        adam.step()
        ema.update_parameters(walk.params)
        later = step + 1 - SWA_START
        if later > 0 and later % SWA_EVERY == 0:
            swa.update_parameters(walk.params)
        walk.keep("adam", walk.params)
        walk.keep("ema", ema.module)
        walk.keep("swa", swa.module if swa.n_averaged else walk.params)
    return walk.arrays()


def main():
    """Writes the file beside this one."""
    arrays = diloco() | averages()
    for case in FREE:
        arrays |= schedule_free(case)
    path = pathlib.Path(__file__).with_name("optim_around.npz")
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
