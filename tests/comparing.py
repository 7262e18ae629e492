"""Run folders made up for the tests of comparisons: no training, only its files."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core import settings
from core.numbers import join
from study.point import Point
from tests.runs import reading
from train.logs import write_json

STEPS, TOKENS = 400, 153_600
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
# Best loss, and the log10 of the rate at which it is.
ARMS = {"adam": (2.357, -2.0), "lion": (2.36, -2.2), "signum": (2.27, -1.7)}
LAUNCH = dict(
    command=["launch.py", "sweep", "--workdir=runs"],
    started="2026-01-02T03:04:05+00:00",
    commit="0123456789abcdef0123456789abcdef01234567",
    dirty=False,
    versions={"python": "3.11.7", "jax": "0.10.2"},
    cores=2,
    device_kind="cpu",
    num_devices=1,
    platform="Linux",
)


def write_run(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    *,
    seed: int,
    loss: float,
    steps: int = STEPS,
    points: int = 8,
    diverged: str = "",
    **summary: Any,
) -> pathlib.Path:
    """The files of a run that ends at `loss`, with a curve of `points` evaluations."""
    folder.mkdir(parents=True)
    full = join(config, {"seed": seed, "num_steps": STEPS})
    (folder / "config.json").write_text(settings.dump(full))
    (folder / "provenance.json").write_text(json.dumps({"launches": [LAUNCH]}))
    lines = []
    for number in range(1, points + 1):
        share = number / points
        value = loss + 1.1 * (1 - share) ** 1.5 if math.isfinite(loss) else 4.0
        at = dict(tokens=round(TOKENS * share * steps / STEPS), seconds=6.0 * share)
        step = round(steps * share)
        lines.append(dict(step=step, loss=value + 0.05, val_loss=value, **at))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    known = dict(
        steps=steps, stopped_early=steps < STEPS, val_loss=lines[-1]["val_loss"]
    )
    known |= dict(tokens=lines[-1]["tokens"], seconds=6.0, compile_seconds=3.5)
    known |= dict(model_flops=lines[-1]["tokens"] * 1.2e6, parameters=200_000)
    known |= {"diverged": diverged} if diverged else {}
    (folder / "summary.json").write_text(json.dumps(known | summary))
    return folder


def write_sweep(
    folder: pathlib.Path,
    arms: Mapping[str, tuple[float, float]] = ARMS,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = range(5),
) -> pathlib.Path:
    """A sweep over rules and rates: a parabola in log10 of the rate, and noise.

    Half of the noise is the seed's own, in all arms. At the highest rate lion diverges
    with two seeds.
    """
    rng = np.random.default_rng(0)
    of_seed = dict(zip(seeds, rng.normal(0, 0.01, len(seeds)), strict=True))
    base = reading()
    for rule, (best, at) in arms.items():
        for rate in rates:
            config = reading(optim__rule__name=rule, optim__schedule__peak=rate)
            for seed in seeds:
                point = Point(
                    {"optim.rule.name": rule, "optim.schedule.peak": rate}, seed
                )
                loss = best + 0.09 * (math.log10(rate) - at) ** 2
                loss += of_seed[seed] + rng.normal(0, 0.005)
                gone = rule == "lion" and rate == max(rates) and seed in (1, 3)
                run = write_run(
                    folder / "trials" / point.name,
                    config,
                    seed=seed,
                    loss=math.nan if gone else loss,
                    diverged="the loss is NaN at step 120" if gone else "",
                    steps=120 if gone else STEPS,
                    seconds=8.0 if rule == "signum" else 6.0,
                )
                trial = {"id": point.id, "setting": point.setting, "seed": seed}
                write_json(run / "trial.json", trial | {"overrides": point.overrides})
    axes = {"optim.rule.name": list(arms), "optim.schedule.peak": list(rates)}
    space = dict(axes=axes, seeds=len(seeds))
    record = {"format": 1, "config": base, "space": space}
    write_json(folder / "sweep.json", record)
    return folder
