"""Criteria without a sweep of their own: public data, oracle tests, devices."""

import csv
import math
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from core.refusal import shown
from study.algoperf import MODES, read_trials, scores
from study.claims.judged import Judged, Line, Part, Plot, plain
from study.scaling import fit, objective
from train.logs import read_metrics

SUBPROCESS_SECONDS = 1_200


def algoperf(
    root: pathlib.Path,
    *,
    data: str,
    names: tuple[str, ...],
    published: tuple[float, ...],
) -> Judged:
    """Are the scores that AlgoPerf published those of its public trials?

    A name is version, ruleset and submission, with `/` between. Equal to 4 decimals in
    the official mode; what the other modes change is told.
    """
    trials = read_trials(root / data)
    boards = {tuple(name.split("/")[:2]) for name in names}
    found = {
        mode: {
            f"{version}/{ruleset}/{submission}": round(score, 4)
            for version, ruleset in sorted(boards)
            for submission, score in scores(trials, version, ruleset, mode).items()
        }
        for mode in MODES
    }
    official = found["official"]
    wanted = dict(zip(names, published, strict=True))
    wrong = {n: s for n, s in wanted.items() if official.get(n) != round(s, 4)}
    said = f"{len(wanted) - len(wrong)} of {len(wanted)} scores are equal to 4 decimals"
    if wrong:
        said += f"; not {shown(sorted(wrong), 100)}"
    missing = sorted(official.keys() - wanted.keys())
    parts = [
        plain("all published scores, to 4 decimals", not wrong and not missing, said)
    ]
    for mode, table in list(found.items())[1:]:
        most = max(official, key=lambda name: abs(table[name] - official[name]))
        told = (
            f"{mode} changes {sum(table[n] != official[n] for n in official)} scores, "
            f"most {most} from {official[most]:.4f} to {table[most]:.4f}"
        )
        parts.append(plain(f"what {mode} changes", True, told, told=True))
    lines = [Line("recomputed", list(wanted.values()), [[official[n]] for n in wanted])]
    return Judged(parts, Plot("published score", "recomputed score", lines))


def sparse_law(
    root: pathlib.Path,
    *,
    data: str,
    num_dense: float,
    tokens_per_step: float,
    max_objective: float,
    names: tuple[str, ...],
    published: tuple[float, ...],
) -> Judged:
    """Has our fit of the law of sparsity an objective as low as can be had?

    The file has sparsity, scale, loss and steps; scale 1 has `num_dense` parameters.
    The published coefficients' own objective is told.
    """
    with open(root / data, newline="", encoding="utf-8") as file:
        rows = [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]
    sparsity_R, scale_R, loss_R, steps_R = map(list, zip(*rows, strict=True))
    density_R = [1 - sparsity for sparsity in sparsity_R]
    kept_R = zip(scale_R, density_R, strict=True)
    sizes = dict(
        density=density_R,
        N=[num_dense * scale * density for scale, density in kept_R],
        D=[steps * tokens_per_step for steps in steps_R],
    )
    ours = fit("sparse", sizes, loss_R)
    theirs = objective(
        "sparse", dict(zip(names, published, strict=True)), sizes, loss_R
    )
    said = f"our fit of {len(loss_R)} runs has an objective of {ours.objective:.4g}"
    numbers = ", ".join(f"{k}={v:.4g}" for k, v in ours.coefficients.items())
    asked = f"an objective of at most {max_objective:.4g}"
    parts = [
        plain(asked, ours.objective <= max_objective, f"{said}: {numbers}"),
        plain("theirs", True, f"the published numbers have {theirs:.4g}", told=True),
    ]
    values = [[ours.objective], [theirs]]
    line = Line("objective", ["our fit", "published"], values)
    return Judged(parts, Plot("", "objective", [line], "words", level=max_objective))


def oracles(root: pathlib.Path, *, tests: tuple[str, ...]) -> Judged:
    """Do the tests pass that hold our code against formulas and other libraries?

    One that was skipped, or was to fail, has shown nothing; what takes too long cannot
    be told.
    """
    asked = "all tests pass"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider"]
    try:
        done = _ran(root, [*command, *tests], os.environ)
    except subprocess.TimeoutExpired:
        said = f"the tests took more than {SUBPROCESS_SECONDS} seconds"
        return Judged([Part(asked, "INVALID", said)])
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    ends = set(re.findall(r"\d+ (\w+)", last)) - {"warning", "warnings"}
    holds = done.returncode == 0 and ends == {"passed"}
    return Judged([plain(asked, holds, re.sub(r" in [\d.]+s.*", "", last))])


def same_curve(
    root: pathlib.Path,
    folder: pathlib.Path,
    overrides: Mapping[str, str],
    *,
    config: str,
    num_devices: tuple[int, ...],
    max_relative: float,
) -> Judged:
    """Is the loss of every step the same on one device and on several?"""
    curves = {}
    for number in num_devices:
        workdir = folder / f"devices_{number}"
        _train(root, workdir, config, overrides, number)
        curves[number] = {line["step"]: line["loss"] for line in read_metrics(workdir)}
    first, off = curves[num_devices[0]], {}
    for number in num_devices[1:]:
        off[number] = max(
            _off(curves[number].get(step), first.get(step))
            for step in first.keys() | curves[number].keys()
        )
    said = ", ".join(f"{worst:.2g} on {number}" for number, worst in off.items())
    parts = [
        plain(
            f"no loss differs by more than {max_relative:g} of itself",
            max(off.values()) <= max_relative,
            f"over {len(first)} steps losses differ from those of one device by up to "
            f"{said}, of themselves",
        )
    ]
    lines = [
        Line(f"{number} devices", list(curve), [[loss] for loss in curve.values()])
        for number, curve in curves.items()
    ]
    return Judged(parts, Plot("step", "training loss, nats", lines))


def _off(loss: float | None, first: float | None) -> float:
    """By how much of itself a loss is off; inf where one is none."""
    if loss is None or first is None or not math.isfinite(loss + first):
        return math.inf
    return abs(loss / first - 1)


def _train(
    root: pathlib.Path,
    workdir: pathlib.Path,
    config: str,
    overrides: Mapping[str, str],
    num_devices: int,
) -> None:
    """A run on so many virtual devices of the CPU; one that has ended stays as it is.

    Raises:
      ValueError: it failed, or the folder holds a run of another config.
    """
    words = [f"--config.{key}={value}" for key, value in overrides.items()]
    environment = dict(os.environ, JAX_PLATFORMS="cpu")
    environment["JAX_NUM_CPU_DEVICES"] = str(num_devices)
    command = [sys.executable, "launch.py", "train", f"--config={config}", *words]
    try:
        done = _ran(root, [*command, f"--workdir={workdir.absolute()}"], environment)
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"{workdir} took more than {SUBPROCESS_SECONDS} seconds."
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise ValueError(f"{workdir}: {last}")


def _ran(
    root: pathlib.Path, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A command that has ended, in the folder of the project.

    Raises:
      TimeoutExpired: it took too long.
    """
    return subprocess.run(
        command,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
        check=False,
    )
