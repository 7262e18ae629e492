"""Forward and backward of a decoder against flax's parts and Hugging Face's GPT-2.

    python benchmarks/decoders.py --torch-python=PYTHON

`benchmarks/README.md` says what is measured, and how.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import statistics
import sys
import time
from typing import Any

import decoder_problem as problem
from problem import GEMM_SIZE
from train_step import PAUSE_SECONDS, check_peers, cpu
from turns import ROOT, Worker

HERE = pathlib.Path(__file__).resolve().parent
OURS = {  # by length: the attention, the places a chunk of logits has, the pieces
    256: [("plain", 32, 4), ("plain", 32, 8), ("blockwise", 32, 4)],
    1024: [("plain", 128, 1), ("plain", 128, 4), ("blockwise", 128, 1)],
}
PEERS = ("flax.linen's parts", "GPT-2, torch, as installed", "the same, unlocked")

PAGE = """# Forward and backward of a decoder

Written by `benchmarks/decoders.py`; do not edit.

* Date: {date}. Commit: {commit}{dirty}.
* Command: `{command}`
* Machine: {cpu}, {cores} cores. Load average before: {load:.2f}.
* {versions}

All: {layers} layers of width {width}, MLP {mlp}, {heads} heads, vocabulary {vocab:,},
pre-norm, learned positions, GELU, biases, tied embeddings; float32, no dropout; full
rows of random tokens; the loss and the gradient of every parameter, no optimizer. A
turn is one pass that is not timed, {steps} that are, then products of {gemm} x {gemm}
matrices, whose fastest shows the peak. All live at once and work one after another,
{rounds} times. Ratios are of the same round. "Unlocked" is torch with MKL's vendor
check lifted.
{tables}"""


def main(argv: list[str]) -> int:
    """Races and writes the page; 2 where the set-up is wrong."""
    args = _parsed(argv)
    try:
        check_peers(args.torch_python)
        load = os.getloadavg()[0]
        races = [race(length, args) for length in problem.LENGTHS]
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    args.out.write_text(_page(args, load, races), encoding="utf-8")
    print(f"Written: {args.out}", file=sys.stderr)
    return 0


def race(length: int, args: argparse.Namespace) -> dict[str, Any]:
    """One length: `rounds` turns of each, in order."""
    ours = [sys.executable, str(HERE / "decoder_ours.py")]
    torch = [args.torch_python, str(HERE / "decoder_gpt2.py")]
    with contextlib.ExitStack() as stack:
        workers = {}

        def start(name: str, command: list[str], **settings: Any) -> None:
            workers[name] = Worker(name, command, {"length": length} | settings)
            stack.callback(workers[name].close)

        for implementation, chunk, pieces in OURS[length]:
            settings = dict(implementation=implementation, chunk=chunk, pieces=pieces)
            name = f"Steepest, {implementation}, {pieces} pieces"
            start(name, ours, **settings)
        start(PEERS[0], [sys.executable, str(HERE / "decoder_flax.py")])
        start(PEERS[1], torch, unlocked=False)
        start(PEERS[2], torch, unlocked=True)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for number in range(args.rounds):
            for name, worker in workers.items():
                turns[name].append(_turn(worker, length, args.steps))
                pace = turns[name][-1]["tokens_per_second"]
                print(
                    f"{length}, round {number + 1}, {name}: {pace:,.0f} tokens/s",
                    file=sys.stderr,
                )
        facts = {name: worker.ask(do="facts") for name, worker in workers.items()}
    return {"length": length, "turns": turns, "facts": facts}


def _turn(worker: Worker, length: int, num_steps: int) -> dict[str, float]:
    time.sleep(PAUSE_SECONDS)
    trained = worker.ask(do="train", num_steps=num_steps)
    multiplied = worker.ask(do="multiply")
    return {
        "tokens_per_second": num_steps * problem.tokens_of(length) / trained["seconds"],
        "peak_flops": 2 * GEMM_SIZE**3 / multiplied["seconds"],
    }


def _page(args: argparse.Namespace, load: float, races: list[dict[str, Any]]) -> str:
    facts = races[0]["facts"]
    mine, torch = facts[next(iter(facts))], facts[PEERS[1]]
    versions = [*mine["versions"].items(), *torch["versions"].items()]
    return PAGE.format(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=mine["commit"],
        dirty=", with changes that are not committed" if mine["dirty"] else "",
        command=f"python benchmarks/decoders.py --rounds={args.rounds} "
        f"--steps={args.steps}",
        cpu=cpu()["model"],
        cores=mine["cores"],
        load=load,
        versions=", ".join(f"{name} {version}" for name, version in versions),
        layers=problem.NUM_LAYERS,
        width=problem.WIDTH,
        mlp=problem.MLP_WIDTH,
        heads=problem.NUM_HEADS,
        vocab=problem.VOCAB,
        steps=args.steps,
        gemm=GEMM_SIZE,
        rounds=args.rounds,
        tables="".join(map(_table, races)),
    )


def _table(race: dict[str, Any]) -> str:
    """Paces, and what the fastest of ours is to each peer, round by round."""
    length, turns, facts = race["length"], race["turns"], race["facts"]
    paces = {n: [t["tokens_per_second"] for t in of] for n, of in turns.items()}
    peak = max(statistics.median(t["peak_flops"] for t in of) for of in turns.values())
    ours = [name for name in turns if name not in PEERS]
    best = max(ours, key=lambda name: statistics.median(paces[name]))
    lines = [
        f"\n## Length {length}, {problem.LENGTHS[length]} rows\n",
        f"Peak: {peak / 1e9:.0f} GFLOP/s. The best of ours: {best}.\n",
        "| | tokens/s, median | min to max | MFU | RSS GB | the best of ours over it |",
        "|---|---|---|---|---|---|",
    ]
    for name, of in paces.items():
        middle = statistics.median(of)
        ratios = [a / b for a, b in zip(paces[best], of, strict=True)]
        lines.append(
            f"| {name} | {middle:,.0f} | {min(of):,.0f} to {max(of):,.0f} "
            f"| {middle * _flops(length) / peak:.0%} "
            f"| {facts[name]['peak_rss_bytes'] / 1e9:.2f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) |"
        )
    return "\n".join(lines) + "\n"


def _flops(length: int) -> float:
    """Of a token, forward and backward; a causal mask halves nothing."""
    D, F, N = problem.WIDTH, problem.MLP_WIDTH, problem.NUM_LAYERS
    forward = N * (8 * D * D + 4 * D * F + 4 * D * length) + 2 * D * problem.VOCAB
    return 3.0 * forward


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--steps", type=int, default=4, help="timed passes a turn")
    parser.add_argument(
        "--torch-python",
        default=sys.executable,
        help="the Python that has torch and transformers (this one)",
    )
    out = ROOT / "docs" / "results" / "decoders.md"
    parser.add_argument("--out", type=pathlib.Path, default=out, help="the page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
