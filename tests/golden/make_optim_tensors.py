"""Makes optim_tensors.npz: PyTorch's and others' rules in float64 on a small problem.

    pip install torch==2.13.0 pytorch-optimizer prodigyopt
    python tests/golden/make_optim_tensors.py

The problem, the rates and the points that are kept are those of make_optim.py.
"""

import pathlib

import numpy as np
from make_optim import SHAPES, problem, walked

CASES = {
    "adafactor": ("Adafactor", 0.05, dict(d=1.0)),
    "adafactor_unclipped": ("Adafactor", 0.02, dict(d=100.0, beta2_decay=-0.5)),
    "sm3": ("SM3", 0.1, dict(momentum=0.9)),
    "mars": ("MARS", 0.02, dict(optimize_1d=True)),
    "mars_strong": ("MARS", 0.02, dict(optimize_1d=True, betas=(0.9, 0.95), gamma=0.2)),
    "prodigy": (
        "Prodigy",
        1.0,
        dict(use_bias_correction=True, d0=1e-2),
    ),
    "prodigy_safeguarded": (
        "Prodigy",
        1.0,
        dict(
            use_bias_correction=True,
            safeguard_warmup=True,
            eps=0.1,
            d0=1e-2,
            d_coef=4.0,
        ),
    ),
    "dadapt_adam": ("DAdaptAdam", 1.0, dict(d0=1e-3)),
}


def optimizer(kind: str):
    """The class of that name, wherever it is."""
    import prodigyopt
    import pytorch_optimizer
    import torch

    for place in (torch.optim, prodigyopt, pytorch_optimizer):
        if hasattr(place, kind):
            return getattr(place, kind)
    raise ValueError(f"Nobody has {kind}.")


def follow(kind: str, peak: float, options: dict) -> dict[str, np.ndarray]:
    """Every parameter before each fourth step and after the last."""
    import torch

    given = {k: torch.tensor(x, dtype=torch.float64) for k, x in problem().items()}
    params = {n: torch.nn.Parameter(given[f"start/{n}"].clone()) for n in SHAPES}
    rule = optimizer(kind)(list(params.values()), lr=peak, **options)
    return walked(rule, params, given, peak)


def main():
    """Writes the file beside this one."""
    arrays = problem()
    for case, (kind, peak, options) in CASES.items():
        for name, path in follow(kind, peak, options).items():
            arrays[f"{case}/{name}"] = path
    file = pathlib.Path(__file__).with_name("optim_tensors.npz")
    np.savez_compressed(file, **arrays)


if __name__ == "__main__":
    main()
