"""Makes schedules.npz: the rates of PyTorch's schedulers, step by step.

    pip install torch==2.13.0 && python tests/golden/make_schedules.py

Each is the rate that the optimizer's steps 0 to 59 are taken at. `plateau/values` are
what ReduceLROnPlateau was shown, one after each step.
"""

import pathlib

import numpy as np

NUM_STEPS = 60
PEAK = 0.5
LOW = 0.05
CYCLE = dict(max_lr=PEAK, total_steps=NUM_STEPS, cycle_momentum=False)
ODD = dict(pct_start=0.4, div_factor=10.0, final_div_factor=5.0)
LINES = dict(base_lr=LOW, max_lr=PEAK, step_size_up=5, step_size_down=9)
CASES = {
    "linear": ("LinearLR", dict(start_factor=1.0, end_factor=0.1, total_iters=60)),
    "polynomial": ("PolynomialLR", dict(total_iters=60, power=1.7)),
    "cosine": ("CosineAnnealingLR", dict(T_max=60, eta_min=LOW)),
    "exponential": ("ExponentialLR", dict(gamma=0.05 ** (1 / 60))),
    "step": ("StepLR", dict(step_size=13, gamma=0.3)),
    "multistep": ("MultiStepLR", dict(milestones=[18, 42], gamma=0.3)),
    "one_cycle": ("OneCycleLR", CYCLE),
    "one_cycle_linear": ("OneCycleLR", CYCLE | ODD | dict(anneal_strategy="linear")),
    "one_cycle_three": ("OneCycleLR", CYCLE | ODD | dict(three_phase=True)),
    "one_cycle_all_down": ("OneCycleLR", CYCLE | ODD | dict(pct_start=0.0)),
    "restarts": ("CosineAnnealingWarmRestarts", dict(T_0=7, eta_min=LOW)),
    "restarts_longer": ("CosineAnnealingWarmRestarts", dict(T_0=5, T_mult=2)),
    "restarts_thrice": ("CosineAnnealingWarmRestarts", dict(T_0=3, T_mult=3)),
    "triangular": ("CyclicLR", LINES | dict(mode="triangular")),
    "triangular2": ("CyclicLR", LINES | dict(mode="triangular2")),
    "exp_range": ("CyclicLR", LINES | dict(mode="exp_range", gamma=0.97)),
}
PLATEAUS = {
    "plateau": dict(factor=0.3, patience=2, cooldown=3, threshold=0.01, min_lr=0.02),
    "plateau_impatient": dict(factor=0.8, patience=0, cooldown=0, threshold=0.0),
}


def values() -> np.ndarray:
    """An objective that falls, stands, falls again and rises; float32 holds it."""
    rng = np.random.default_rng(0)
    fall = np.concatenate([np.linspace(4, 2, 15), np.full(20, 2.0)])
    rest = np.concatenate([np.linspace(1.9, 1, 10), np.linspace(1, 3, 15)])
    whole = np.concatenate([fall, rest]) + rng.normal(scale=0.05, size=NUM_STEPS)
    return whole.astype(np.float32)


def follow(kind: str, options: dict, shown: np.ndarray | None = None) -> np.ndarray:
    """The rate of every step."""
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=PEAK)
    scheduler = getattr(torch.optim.lr_scheduler, kind)(optimizer, **options)
    rates = []
    for step in range(NUM_STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.zeros(1)
        optimizer.step()
        scheduler.step(*([] if shown is None else [float(shown[step])]))
    return np.array(rates)


def main():
    """Writes the file beside this one."""
    arrays = {case: follow(kind, options) for case, (kind, options) in CASES.items()}
    arrays["plateau/values"] = values()
    for case, options in PLATEAUS.items():
        kind = "ReduceLROnPlateau"
        arrays[case] = follow(kind, dict(options, eps=0.0), values())
    np.savez_compressed(pathlib.Path(__file__).with_name("schedules.npz"), **arrays)


if __name__ == "__main__":
    main()
