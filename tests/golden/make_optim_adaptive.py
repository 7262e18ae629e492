"""Makes optim_adaptive.npz: what other packages' rules do, in float64.

    pip install torch==2.13.0 lion-pytorch pytorch-optimizer
    python tests/golden/make_optim_adaptive.py

The problem, the falling rate and the points kept are those of make_optim.py; the rate
begins at the `peak` of each case.
"""

import importlib
import pathlib

import numpy as np
from make_optim import SHAPES, problem, walked

TORCH, LION, KOZISTR = "torch.optim", "lion_pytorch", "pytorch_optimizer"
ADAM = dict(betas=(0.9, 0.999), eps=1e-8)
CASES = {
    "nadam": (TORCH, "NAdam", 0.02, dict(ADAM, momentum_decay=1e9)),
    "nadamw": (
        TORCH,
        "NAdam",
        0.02,
        dict(ADAM, momentum_decay=1e9, weight_decay=0.3, decoupled_weight_decay=True),
    ),
    "radam": (TORCH, "RAdam", 0.02, ADAM),
    "radam_long": (TORCH, "RAdam", 0.02, dict(ADAM, betas=(0.9, 0.9999))),
    "adamax": (TORCH, "Adamax", 0.02, ADAM),
    "adagrad": (TORCH, "Adagrad", 0.1, dict(eps=1e-10)),
    "adadelta": (TORCH, "Adadelta", 2.0, dict(rho=0.9, eps=1e-6)),
    "rmsprop": (TORCH, "RMSprop", 0.02, dict(alpha=0.99, eps=1e-8)),
    "rmsprop_momentum": (
        TORCH,
        "RMSprop",
        0.002,
        dict(alpha=0.9, eps=1e-4, momentum=0.9),
    ),
    "rmsprop_centered": (
        TORCH,
        "RMSprop",
        0.002,
        dict(alpha=0.9, eps=1e-4, momentum=0.9, centered=True),
    ),
    "lion": (LION, "Lion", 0.02, dict(betas=(0.9, 0.99))),
    "adabelief": (KOZISTR, "AdaBelief", 0.02, dict(ADAM, eps=1e-16)),
    "yogi": (KOZISTR, "Yogi", 0.02, dict(ADAM, eps=1e-3)),
    # It raises its bound from 2^(1/4), the authors theirs from 1.
    "adopt": (
        KOZISTR,
        "ADOPT",
        0.02,
        dict(betas=(0.9, 0.9), eps=1e-6, clip_lambda=lambda t: (t - 1) ** 0.25),
    ),
    "ademamix_even": (
        KOZISTR,
        "AdEMAMix",
        0.02,
        dict(betas=(0.9, 0.99, 0.9999), alpha=5.0, t_alpha_beta3=48, eps=1e-8),
    ),
    "adan": (KOZISTR, "Adan", 0.02, dict(betas=(0.98, 0.92, 0.99), eps=1e-8)),
}


def follow(module: str, kind: str, peak: float, options: dict) -> dict:
    """Every parameter before each fourth step and after the last."""
    import torch

    arrays = {k: torch.tensor(x, dtype=torch.float64) for k, x in problem().items()}
    params = {n: torch.nn.Parameter(arrays[f"start/{n}"].clone()) for n in SHAPES}
    groups = [
        dict(params=[params["key"], params["in"]]),
        dict(params=[params["bias"]], weight_decay=0.0),
    ]
    rule = getattr(importlib.import_module(module), kind)
    optimizer = rule(groups, lr=peak, **options)
    return walked(optimizer, params, arrays, peak)


def main():
    """Writes the file beside this one."""
    arrays = {}
    for case, given in CASES.items():
        for name, path in follow(*given).items():
            arrays[f"{case}/{name}"] = path
    target = pathlib.Path(__file__).with_name("optim_adaptive.npz")
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    main()
