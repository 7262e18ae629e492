"""Our training step against Hugging Face Marian's on a CPU, in turns, in one run.

    python benchmarks/train_step.py [--rounds=5] [--out=docs/results/train_step.md]

`benchmarks/README.md` says what is measured, and how.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import problem
import table
from turns import ROOT, Worker

HERE = pathlib.Path(__file__).resolve().parent
DROPOUTS = (0.0, 0.1)
TRIAL_ROUNDS = 2  # turns of each number of pieces before the race
PAUSE_SECONDS = 0.3  # until the threads of whoever had the last turn sleep
NEEDS = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {})))"
PEERS = ("torch", "transformers")


def main(argv: Sequence[str]) -> int:
    """Races and writes the table; 2 where the command line or the set-up is wrong."""
    args = _parsed(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers end too
    try:
        check_peers(args.torch_python)
        results = measure(args)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(table.render(results), encoding="utf-8")
    print(f"Written: {args.out}", file=sys.stderr)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All that the table is made of."""
    load = os.getloadavg()[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": _command(args),
        "cpu": cpu(),
        "system": f"{platform.system()}, {platform.machine()}",
        "load_before": load,
        "rounds": args.rounds,
        "steps": args.steps,
        "races": [race(dropout, args) for dropout in DROPOUTS],
    }


def race(dropout: float, args: argparse.Namespace) -> dict[str, Any]:
    """One dropout: chooses our number of pieces, then `rounds` turns of each in order.

    The winner of the trial goes on as it is; the losers end before the race.
    """
    peer = [args.torch_python, str(HERE / "marian.py")]
    with contextlib.ExitStack() as workers:

        def start(name: str, command: list[str], **settings: Any) -> Worker:
            _say(f"dropout {dropout}: starts {name}")
            worker = Worker(name, command, {"dropout": dropout} | settings)
            workers.callback(worker.close)
            return worker

        trials = {}
        for pieces in args.pieces:
            command = [sys.executable, str(HERE / "ours.py")]
            trials[pieces] = start(f"ours, {pieces} pieces", command, pieces=pieces)
        tried = _trial(trials, args.steps) if len(trials) > 1 else {}
        chosen = max(tried, key=tried.get) if tried else args.pieces[0]
        for pieces, worker in trials.items():
            if pieces != chosen:
                worker.close()
        contestants = {
            "ours": trials[chosen],
            "stock": start("Marian, stock", peer, unlocked=False),
            "unlocked": start("Marian, unlocked", peer, unlocked=True),
        }
        turns = {name: [] for name in contestants}
        for number in range(args.rounds):
            for name, worker in contestants.items():
                turns[name].append(_turn(worker, args.steps))
                pace = turns[name][-1]["tokens_per_second"]
                _say(f"round {number + 1}, {worker.name}: {pace:,.0f} tokens/s")
        return {
            "dropout": dropout,
            "pieces": chosen,
            "tried": tried,
            "turns": turns,
            "first_loss": {n: w.first_loss for n, w in contestants.items()},
            "facts": {n: w.ask(do="facts") for n, w in contestants.items()},
        }


def _trial(workers: dict[int, Worker], num_steps: int) -> dict[int, float]:
    """The median tokens/s of each number of pieces."""
    found = {pieces: [] for pieces in workers}
    for _ in range(TRIAL_ROUNDS):
        for pieces, worker in workers.items():
            found[pieces].append(_turn(worker, num_steps)["tokens_per_second"])
    for pieces, paces in found.items():
        _say(f"{pieces} pieces: {statistics.median(paces):,.0f} tokens/s")
    return {pieces: statistics.median(paces) for pieces, paces in found.items()}


def _turn(worker: Worker, num_steps: int) -> dict[str, float]:
    """Some steps, then products of matrices, which show the peak at that moment."""
    time.sleep(PAUSE_SECONDS)
    trained = worker.ask(do="train", num_steps=num_steps)
    multiplied = worker.ask(do="multiply")
    return {
        "tokens_per_second": num_steps * problem.TOKENS_PER_STEP / trained["seconds"],
        "peak_flops": 2 * problem.GEMM_SIZE**3 / multiplied["seconds"],
        "loss": trained["loss"],
    }


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Races our training step against Hugging Face Marian's on a CPU.",
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=_count, default=5, help="turns of each")
    parser.add_argument("--steps", type=_count, default=6, help="timed steps a turn")
    parser.add_argument(
        "--pieces",
        type=_pieces,
        default=[1, 2, 4, 8],
        help="microbatches a step of ours; of several, a trial chooses the fastest",
    )
    parser.add_argument(
        "--torch-python",
        default=sys.executable,
        help="the Python that has torch and transformers (this one)",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=ROOT / "docs" / "results" / "train_step.md",
        help="the Markdown file to write",
    )
    return parser.parse_args(argv)


def _count(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer of at least 1")
    return int(text)


def _pieces(text: str) -> list[int]:
    """Different divisors of the batch, with commas between."""
    found = [_count(item) for item in text.split(",")]
    wrong = [pieces for pieces in found if problem.NUM_ROWS % pieces]
    if wrong or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be different divisors of the {problem.NUM_ROWS} rows"
        )
    return found


def check_peers(python: str) -> None:
    """Raises ValueError unless that Python has what the peers need."""
    try:
        done = subprocess.run([python, "-c", NEEDS.format(PEERS)], capture_output=True)
    except OSError as error:
        raise ValueError(f"--torch-python={python}: {error.strerror}.") from error
    if done.returncode:
        raise ValueError(
            f"--torch-python={python} lacks torch or transformers. Run `pip install "
            f"{' '.join(PEERS)}` in any environment, and name its Python."
        )


def _command(args: argparse.Namespace) -> str:
    """What to type to have this again; where things lie is nobody's business."""
    pieces = ",".join(map(str, args.pieces))
    return (
        f"python benchmarks/train_step.py --rounds={args.rounds} --steps={args.steps} "
        f"--pieces={pieces}"
    )


def cpu() -> dict[str, str]:
    """The processor, in its maker's words."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {"model": platform.processor() or "unknown", "vendor": "", "vectors": ""}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    flags = facts.get("flags", "").split()
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "model": facts.get("model name", "unknown"),
        "vendor": facts.get("vendor_id", ""),
        "vectors": " ".join(flag for flag in known if flag in flags),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
