"""Makes optim.npz: what PyTorch's optimizers do, in float64, on one small problem.

    pip install torch==2.13.0 && python tests/golden/make_optim.py

The gradient at step t is curve * (w - goal) + 0.3 sin(2 w) + noise_t, by hand, and the
rate falls linearly from 0.02 to zero at the end. `bias` is never decayed. Every fourth
point of a path is kept, the first and the last among them.
"""

import pathlib

import numpy as np

NUM_STEPS = 64
EVERY_STEPS = 4
PEAK = 0.02
SHAPES = {"key": (3, 4), "in": (6,), "bias": (4,)}
CASES = {
    "gradient_descent": ("SGD", dict()),
    "momentum": ("SGD", dict(momentum=0.9)),
    "nesterov": ("SGD", dict(momentum=0.9, nesterov=True)),
    "momentum_l2": ("SGD", dict(momentum=0.9, weight_decay=0.1)),
    "adam": ("Adam", dict(betas=(0.9, 0.999), eps=1e-8)),
    "adam_other_betas": ("Adam", dict(betas=(0.8, 0.95), eps=1e-3)),
    "adam_l2": ("Adam", dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)),
    "adamw": ("AdamW", dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.3)),
    "adam_clipped": ("Adam", dict(betas=(0.9, 0.999), eps=1e-8, clip_norm=1.0)),
}


def problem() -> dict[str, np.ndarray]:
    """Start, goal, curve and noise of every parameter; float32 holds them exactly."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in SHAPES.items():
        arrays[f"start/{name}"] = rng.normal(scale=0.5, size=shape)
        arrays[f"goal/{name}"] = rng.normal(scale=0.5, size=shape)
        arrays[f"curve/{name}"] = rng.uniform(0.1, 2.0, size=shape)
        arrays[f"noise/{name}"] = rng.normal(scale=0.5, size=(NUM_STEPS, *shape))
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def follow(kind: str, options: dict, given: dict[str, np.ndarray]) -> dict:
    """Every parameter before each fourth step and after the last."""
    import torch

    options = dict(options)
    clip_norm = options.pop("clip_norm", None)
    given = {key: torch.tensor(x, dtype=torch.float64) for key, x in given.items()}
    params = {n: torch.nn.Parameter(given[f"start/{n}"].clone()) for n in SHAPES}
    groups = [
        dict(params=[params["key"], params["in"]]),
        dict(params=[params["bias"]], weight_decay=0.0),
    ]
    optimizer = getattr(torch.optim, kind)(groups, lr=PEAK, **options)
    return walked(optimizer, params, given, PEAK, clip_norm)


def walked(optimizer, params, given, peak, clip_norm=None):
    """The points of each parameter, as the rate falls from its peak to 0."""
    import torch

    path = {name: [p.detach().numpy().copy()] for name, p in params.items()}
    for step in range(NUM_STEPS):
        for name, p in params.items():
            w = p.detach()
            pull = given[f"curve/{name}"] * (w - given[f"goal/{name}"])
            p.grad = pull + 0.3 * torch.sin(2 * w) + given[f"noise/{name}"][step]
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(params.values()), clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = peak * (1 - step / NUM_STEPS)
        optimizer.step()
        for name, p in params.items():
            path[name].append(p.detach().numpy().copy())
    return {name: np.stack(points[::EVERY_STEPS]) for name, points in path.items()}


def main():
    """Writes the file beside this one."""
    arrays = problem()
    for case, (kind, options) in CASES.items():
        for name, path in follow(kind, options, problem()).items():
            arrays[f"{case}/{name}"] = path
    np.savez_compressed(pathlib.Path(__file__).with_name("optim.npz"), **arrays)


if __name__ == "__main__":
    main()
