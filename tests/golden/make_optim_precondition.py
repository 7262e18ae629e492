"""Makes optim_precondition.npz: SOAP and Shampoo of pytorch-optimizer, in float64.

    pip install torch==2.13.0 pytorch-optimizer==4.1.0
    python tests/golden/make_optim_precondition.py

The problem and the rate are those of make_optim.py; every fourth point is kept.
"""

import pathlib

import numpy as np
from make_optim import EVERY_STEPS, NUM_STEPS, PEAK, SHAPES, problem

SOAP = dict(kind="SOAP", weight_decay=0.0, eps=1e-8)
CASES = {
    "soap": dict(SOAP, betas=(0.95, 0.95), shampoo_beta=0.95),
    "soap_every_step": dict(
        SOAP, betas=(0.9, 0.99), shampoo_beta=0.8, precondition_frequency=1
    ),
    "soap_one_side": dict(
        SOAP,
        betas=(0.9, 0.95),
        shampoo_beta=0.95,
        precondition_frequency=3,
        max_precondition_dim=3,
    ),
    # Of sums; of vectors it takes the root of a whole matrix, which ours does not.
    "shampoo": dict(kind="Shampoo", preconditioning_compute_steps=1, matrix_eps=1e-12),
}


def follow(kind: str, options: dict, given: dict[str, np.ndarray]) -> dict:
    """Every parameter before each fourth step and after the last."""
    import pytorch_optimizer
    import torch

    torch.set_default_dtype(torch.float64)
    given = {key: torch.tensor(x, dtype=torch.float64) for key, x in given.items()}
    params = {n: torch.nn.Parameter(given[f"start/{n}"].clone()) for n in SHAPES}
    optimizer = getattr(pytorch_optimizer, kind)(
        list(params.values()), lr=PEAK, **options
    )
    path = {name: [p.detach().numpy().copy()] for name, p in params.items()}
    for step in range(NUM_STEPS):
        for name, p in params.items():
            w = p.detach()
            pull = given[f"curve/{name}"] * (w - given[f"goal/{name}"])
            p.grad = pull + 0.3 * torch.sin(2 * w) + given[f"noise/{name}"][step]
        optimizer.param_groups[0]["lr"] = PEAK * (1 - step / NUM_STEPS)
        optimizer.step()
        for name, p in params.items():
            path[name].append(p.detach().numpy().copy())
    return {name: np.stack(points[::EVERY_STEPS]) for name, points in path.items()}


def main():
    """Writes the file beside this one."""
    arrays = problem()
    for case, options in CASES.items():
        options = dict(options)
        for name, path in follow(options.pop("kind"), options, problem()).items():
            arrays[f"{case}/{name}"] = path
    path = pathlib.Path(__file__).with_name("optim_precondition.npz")
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
