"""A sweep as one program, against the same points as processes, two at a time.

    python benchmarks/sweep.py --data=DIR [--alone=64] [--out=docs/results/sweep.md]

DIR holds tinyshakespeare.txt(.gz). 64 points (learning rate x decay x seed) of 150
steps of the character LM of experiments/shakespeare.py: `launch.py sweep`, and
`launch.py train` for each. Both write all that they always write. First with an empty
compile cache, of which every process has one of its own, then with a full one.
`--alone` trains that many of the points, spread evenly, and counts them for all.
"""

import argparse
import concurrent.futures
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from study import outcomes
from train.logs import read_json
from train.provenance import provenance

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS, SIZE, AT_ONCE = 150, 64, 2
NAME = "--config=experiments/sweep_rates.py"


def main() -> None:
    """Runs all four and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--alone", type=int, default=SIZE)
    parser.add_argument("--out", default="docs/results/sweep.md")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="sweep-") as place:
        folder = pathlib.Path(place)
        keys = [f"--config.data.folder={options.data}", f"--config.num_steps={STEPS}"]
        file = next(pathlib.Path(options.data).glob("tinyshakespeare.txt*"))
        keys.append(f"--config.data.train={file.name}")
        for cache in ("cold", "warm"):
            own = folder / "cache-sweep"
            sweep = folder / f"sweep-{cache}"
            words = ["sweep", NAME, *keys, f"--workdir={sweep}"]
            found["sweep", cache] = timed([(words, own)])
            trials = outcomes.read(sweep)
            assert [trial.state for trial in trials] == ["done"] * SIZE
            chosen = trials[:: SIZE // options.alone]
            if cache == "warm":  # by one that is not counted
                timed([_alone(chosen[0], folder / "first", folder / "cache-alone")])
            jobs = []
            for trial in chosen:
                own = folder / f"cache-{trial.point.id}"
                kept = own if cache == "cold" else folder / "cache-alone"
                jobs.append(_alone(trial, folder / cache / trial.point.id, kept))
            share = len(trials) / len(chosen)
            found["alone", cache] = timed(jobs) * share
        write(pathlib.Path(options.out), found, options.alone, facts_of(folder))


def timed(jobs: list[tuple[list[str], pathlib.Path]]) -> float:
    """The seconds of commands, two at a time, each with its own cache."""
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in pool.map(lambda job: _run(*job), jobs):
            assert done.returncode == 0, done.stderr[-400:]
    return time.perf_counter() - began


def _alone(
    trial: outcomes.Outcome, workdir: pathlib.Path, cache: pathlib.Path
) -> tuple[list[str], pathlib.Path]:
    """The command that trains a trial by itself, and its cache."""
    config = trial.folder / "config.json"
    return ["train", f"--config={config}", f"--workdir={workdir}"], cache


def _run(words: list[str], cache: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "launch.py", *words],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )


def facts_of(folder: pathlib.Path) -> dict[str, float]:
    """Seconds a step of a trial, in company and alone, and of compiling."""
    trials = outcomes.read(folder / "sweep-warm")
    alone = [read_json(path) for path in (folder / "warm").glob("*/summary.json")]
    return {
        "step_in_company": sum(x.summary["seconds"] for x in trials) / SIZE / STEPS,
        "step_alone": sum(x["seconds"] for x in alone) / len(alone) / STEPS,
        "compile": sum(x.summary["compile_seconds"] for x in trials),
        "parameters": trials[0].summary["parameters"],
    }


def write(
    path: pathlib.Path,
    found: dict[tuple[str, str], float],
    alone: int,
    facts: dict[str, float],
) -> None:
    """The page, which is printed too."""
    origin = provenance(["benchmarks/sweep.py"])
    dirty = " with changes" if origin["dirty"] else ""
    rows = [
        f"| {cache} | {found['sweep', cache]:.0f} | {found['alone', cache]:.0f} | "
        f"{found['sweep', cache] / found['alone', cache]:.3f} |"
        for cache in ("warm", "cold")
    ]
    text = "\n".join(
        [
            "# A sweep as one program",
            "",
            f"{SIZE} points (8 learning rates x 4 decays x 2 seeds), {STEPS} steps "
            f"each of the character LM ({facts['parameters']:,} parameters): one "
            "`launch.py sweep`, and `launch.py train` for each point, two at a time.",
            "",
            "| compile cache | one sweep, s | processes, s | ratio |",
            "|---|---|---|---|",
            *rows,
            "",
            f"A step of a trial takes {1e3 * facts['step_in_company']:.1f} ms in "
            f"company, and {1e3 * facts['step_alone']:.1f} ms in a process of its own "
            f"beside another one. With a warm cache the sweep traces and loads its "
            f"programs in {facts['compile']:.1f} s.",
            "",
            f"Of the {SIZE} processes {alone} were run, and their time counts for all.",
            "",
            f"* `python benchmarks/sweep.py --data=DIR --alone={alone}`, "
            f"{origin['started']}",
            f"* commit {origin['commit']}{dirty}; {origin['cores']} cores, "
            f"{platform.machine()}; jax {origin['versions']['jax']}",
        ]
    )
    path.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
