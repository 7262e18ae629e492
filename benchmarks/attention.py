"""Memory and speed of attention: ours, `flax.linen`'s and torch's.

    python benchmarks/attention.py --torch-python=PYTHON --tpu-python=PYTHON

writes `docs/results/attention.md`: first the memory that compiled programs would need,
on a CPU and, where the second Python has libtpu, on a TPU; then a race like that of
`decoders.py`, which `--rounds=0` leaves out.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

import attention_problem as problem
from attention_memory import HEAD_WIDTH, LENGTHS, NUM_HEADS, TOPOLOGY
from problem import GEMM_SIZE
from train_step import PAUSE_SECONDS, check_peers, cpu
from turns import ON_CPU, ROOT, Worker

from train.provenance import provenance

HERE = pathlib.Path(__file__).resolve().parent
OURS, PEERS = ("plain", "blockwise"), ("flax.linen", "torch", "torch, unlocked")

PAGE = """# Attention: memory and speed

Written by `benchmarks/attention.py`; do not edit.

* Date: {date}. Commit: {commit}{dirty}.
* Command: `python benchmarks/attention.py --rounds={rounds} --steps={steps}`
* Machine: {cpu}, {cores} cores. Load average before: {load:.2f}.
* {versions}

## Memory

Bytes that the compiled forward and backward need for one packed, causal row of
{heads} heads of {width}, in bfloat16, from `compile().memory_analysis()`: nothing is
run, so nothing is noise. The slope is that of the logarithms over all five lengths: 1
is linear, 2 quadratic.

{memory}
{speed}"""

SPEED = """
## Speed

Forward and backward, float32, causal, full rows, {heads} heads of {width}, {tokens:,}
tokens. A turn is one pass that is not timed, {steps} that are, then products of
{gemm} x {gemm} matrices. All live at once and work one after another, {rounds} times.
Ratios are of the same round. "Unlocked" is torch with MKL's vendor check lifted.
{tables}"""


def main(argv: list[str]) -> int:
    """Compiles, races, and writes the page; 2 where the set-up is wrong."""
    args = _parsed(argv)
    load = os.getloadavg()[0]
    races = []
    try:
        if args.rounds:
            check_peers(args.torch_python)
            races = [race(length, args) for length in problem.LENGTHS]
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    needed = {
        "One CPU device: temporary": memory("cpu", sys.executable),
        f"One chip of a TPU {TOPOLOGY}, compiled ahead of time: peak": memory(
            "tpu", args.tpu_python
        ),
    }
    args.out.write_text(_page(args, load, needed, races), encoding="utf-8")
    print(f"Written: {args.out}", file=sys.stderr)
    return 0


def memory(platform: str, python: str) -> list[dict[str, Any]]:
    """A row for each program; none where that Python cannot compile for it."""
    done = subprocess.run(
        [python, str(HERE / "attention_memory.py"), platform],
        capture_output=True,
        text=True,
        env=os.environ | ON_CPU | {"PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        print(f"No memory of {platform}: {said[-1]}", file=sys.stderr)
    lines = done.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def race(length: int, args: argparse.Namespace) -> dict[str, Any]:
    """One length: `rounds` turns of each, in order."""
    ours = [sys.executable, str(HERE / "attention_jax.py")]
    torch = [args.torch_python, str(HERE / "attention_torch.py")]
    chosen = {name: (ours, dict(implementation=name)) for name in OURS}
    chosen[PEERS[0]] = ours, dict(implementation="flax")
    chosen[PEERS[1]] = torch, dict(unlocked=False)
    chosen[PEERS[2]] = torch, dict(unlocked=True)
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, (command, settings) in chosen.items():
            workers[name] = Worker(name, command, {"length": length} | settings)
            stack.callback(workers[name].close)
        first = {name: worker.first_loss for name, worker in workers.items()}
        for name, energy in first.items():
            if not math.isclose(energy, first["plain"], rel_tol=1e-3, abs_tol=1e-2):
                raise RuntimeError(f"{name} computes {energy}, not {first['plain']}.")
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for _ in range(args.rounds):
            for name, worker in workers.items():
                time.sleep(PAUSE_SECONDS)
                turns[name].append(worker.ask(do="train", num_steps=args.steps))
                worker.ask(do="multiply")
        facts = {name: worker.ask(do="facts") for name, worker in workers.items()}
    seconds = {n: [t["seconds"] / args.steps for t in of] for n, of in turns.items()}
    return {"length": length, "seconds": seconds, "facts": facts}


def _page(
    args: argparse.Namespace,
    load: float,
    needed: dict[str, list[dict[str, Any]]],
    races: list[dict[str, Any]],
) -> str:
    known = provenance([])
    versions = dict(jax=next(rows[0]["jax"] for rows in needed.values() if rows))
    for one in races:
        for facts in one["facts"].values():
            versions |= facts["versions"]
    speed = "\n## Speed\n\nNot run.\n"
    if races:
        speed = SPEED.format(
            heads=problem.NUM_HEADS,
            width=problem.HEAD_WIDTH,
            tokens=math.prod(next(iter(problem.LENGTHS.items()))),
            steps=args.steps,
            gemm=GEMM_SIZE,
            rounds=args.rounds,
            tables="".join(map(_race_table, races)),
        )
    return PAGE.format(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=known["commit"],
        dirty=", with changes that are not committed" if known["dirty"] else "",
        rounds=args.rounds,
        steps=args.steps,
        cpu=cpu()["model"],
        cores=known["cores"],
        load=load,
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        heads=NUM_HEADS,
        width=HEAD_WIDTH,
        memory="\n".join(_memory_table(*item) for item in needed.items()),
        speed=speed,
    )


def _memory_table(title: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f"### {title}\n\nNot compiled: libtpu is not installed.\n"
    column = title.rpartition(": ")[2]
    lines = [
        f"### {title} MB\n",
        f"| | {' | '.join(map(str, LENGTHS))} | slope |",
        f"|---|{'---|' * (len(LENGTHS) + 1)}",
    ]
    for name in dict.fromkeys(row["implementation"] for row in rows):
        of = {r["length"]: r[column] for r in rows if r["implementation"] == name}
        cells = [f"{of[n] / 1e6:,.1f}" if n in of else "" for n in LENGTHS]
        lines.append(f"| {name} | {' | '.join(cells)} | {_slope(of):.2f} |")
    return "\n".join(lines) + "\n"


def _slope(of: dict[int, float]) -> float:
    """Of the logarithms, by least squares."""
    logs = [math.log(length) for length in of], [math.log(x) for x in of.values()]
    return statistics.linear_regression(*logs).slope


def _race_table(one: dict[str, Any]) -> str:
    """Times, and what the fastest of ours is to each, round by round."""
    seconds = one["seconds"]
    best = min(OURS, key=lambda name: statistics.median(seconds[name]))
    lines = [
        f"\n### Length {one['length']}, {problem.LENGTHS[one['length']]} rows\n",
        f"| | ms, median | min to max | RSS GB | {best} over it, in speed |",
        "|---|---|---|---|---|",
    ]
    for name, of in seconds.items():
        ratios = [a / b for a, b in zip(of, seconds[best], strict=True)]
        lines.append(
            f"| {name} | {statistics.median(of) * 1e3:,.0f} "
            f"| {min(of) * 1e3:,.0f} to {max(of) * 1e3:,.0f} "
            f"| {one['facts'][name]['peak_rss_bytes'] / 1e9:.2f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) |"
        )
    return "\n".join(lines) + "\n"


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, here = parser.add_argument, sys.executable
    add("--rounds", type=int, default=5, help="turns of each; 0 measures memory only")
    add("--steps", type=int, default=4, help="timed passes a turn")
    add("--torch-python", default=here, help="the Python that has torch (this one)")
    add("--tpu-python", default=here, help="the Python that has libtpu (this one)")
    out = ROOT / "docs" / "results" / "attention.md"
    add("--out", type=pathlib.Path, default=out, help="the page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
