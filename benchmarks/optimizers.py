"""What every rule costs beside AdamW, and four of them beside another library's.

    python benchmarks/optimizers.py --torch-python=PYTHON

writes `docs/results/optimizers.md`. Rules, wrappers and averages are those of the
registries, with their defaults; each races AdamW by itself, so that both are measured
at the same time. Without `--torch-python` the other library is left out.
"""

import argparse
import contextlib
import datetime
import inspect
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import optimizers_page as page
import optimizers_problem as problem
from train_step import NEEDS, PAUSE_SECONDS, cpu
from turns import ROOT, Worker

from optim import AVERAGES, OUTER, RULES

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ("torch", "transformers", "pytorch_optimizer")
THEIRS = {  # of the same work, the first; what else there is, after it
    "soap": ["SOAP"],
    "shampoo": ["Shampoo, SVD", "Shampoo, Schur-Newton"],
    "mars": ["MARS"],
    "muon": ["Muon, float32", "Muon, bfloat16"],
}
SAME = ("SOAP", "MARS", "Muon, float32")  # as ours, step by step
WITHOUT_DEFAULT = {"start_step": 0, "every_steps": 10}  # their cost is that of any
ADAMW: dict[str, Any] = {"rule": {"name": "adamw"}, "decay": problem.DECAY}
OURS = [sys.executable, str(HERE / "optimizers_ours.py")]


def main(argv: Sequence[str]) -> int:
    """Races and writes the page; 2 where the set-up is wrong."""
    args = _parsed(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers end too
    began, load = time.monotonic(), os.getloadavg()[0]
    try:
        if args.torch_python:
            check_peers(args.torch_python)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(args, folder)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    found |= {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu(),
        "load": load,
        "command": _command(args),
        "rounds": args.rounds,
        "steps": args.steps,
        "minutes": (time.monotonic() - began) / 60,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = page.render(found)
    args.out.write_text(text, encoding="utf-8")
    print(text)
    print(f"Written: {args.out}", file=sys.stderr)
    return 0


def rows() -> dict[str, dict[str, Any]]:
    """The words of every chain that is raced, by its name on the page.

    >>> rows()["lion"]["rule"], rows()["adamw, then ema"]["average"]
    ({'name': 'lion'}, {'name': 'ema'})
    """
    found = {name: ADAMW | {"rule": {"name": name}} for name in RULES}
    for block, known in (("outer", OUTER), ("average", AVERAGES)):
        for name in (name for name in known if name != "none"):
            parameters = inspect.signature(known[name].build).parameters
            words = {
                key: value
                for key, value in WITHOUT_DEFAULT.items()
                if key in parameters
                and parameters[key].default is inspect.Parameter.empty
            }
            found[f"adamw, then {name}"] = ADAMW | {block: {"name": name} | words}
    found["adamw, sam first"] = ADAMW | {"sam_radius": problem.SAM_RADIUS}
    return found


def period_of(words: dict[str, Any]) -> int:
    """Steps after which a rule's cost repeats.

    >>> period_of({"rule": {"name": "soap"}}), period_of({"rule": {"name": "adam"}})
    (10, 1)
    """
    rule = words["rule"]
    parameters = inspect.signature(RULES[rule["name"]].build).parameters
    default = parameters["every_steps"].default if "every_steps" in parameters else 1
    return rule.get("every_steps", default)


def measure(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """All that the page is made of."""
    with contextlib.ExitStack() as stack:
        whole = Worker("forward and backward", OURS, {"folder": folder})
        stack.callback(whole.close)
        passes = [_turn(whole, problem.NUM_BATCHES) for _ in range(args.rounds)]
        facts = whole.ask(do="facts")
        whole.close()
        adamw = _chain(stack, "adamw", ADAMW, folder)
        chosen = [name for name in rows() if not args.only or name in args.only]
        table = {name: against(adamw, name, args, folder) for name in chosen}
    rivals = {}
    if args.torch_python:
        for name in THEIRS:
            if not args.only or name in args.only:
                rivals[name] = race(name, facts["tensors"], args, folder)
    return {"facts": facts, "passes": passes, "rows": table, "rivals": rivals}


def against(
    adamw: Worker, name: str, args: argparse.Namespace, folder: str
) -> dict[str, Any]:
    """Turns of AdamW and of another, by twos; who is first alternates."""
    words = rows()[name]
    num_steps = math.lcm(args.steps, period_of(words))
    with contextlib.ExitStack() as stack:
        other = _chain(stack, name, words, folder)
        turns = {"adamw": [], "other": []}
        for number in range(args.rounds):
            pair = [("adamw", adamw, args.steps), ("other", other, num_steps)]
            for which, worker, steps in pair[:: 1 - 2 * (number % 2)]:
                turns[which].append(_turn(worker, steps))
        facts = other.ask(do="facts")
    middle = statistics.median(turns["other"])
    _say(f"{name}: {middle * 1e3:,.1f} ms, after {statistics.median(turns['adamw'])}")
    return turns | facts | {"period": period_of(words)}


def race(
    name: str, tensors: list[Any], args: argparse.Namespace, folder: str
) -> dict[str, Any]:
    """A rule of ours against theirs, in turns; the first of each round changes."""
    words = {"rule": problem.RIVALS[name]}
    num_steps = math.lcm(args.steps, period_of(words))
    peer = [args.torch_python, str(HERE / "optimizers_torch.py")]
    with contextlib.ExitStack() as stack:
        workers = {"ours": _chain(stack, name, words, folder)}
        for their in THEIRS[name]:
            settings = dict(folder=folder, tensors=tensors, name=their)
            workers[their] = Worker(their, peer, settings)
            stack.callback(workers[their].close)
        moved = {which: worker.first_loss for which, worker in workers.items()}
        for their in set(SAME) & set(moved):
            if not math.isclose(moved[their], moved["ours"], rel_tol=1e-2):
                raise RuntimeError(f"Moved in {problem.FIRST_STEPS} steps: {moved}.")
        turns: dict[str, list[float]] = {which: [] for which in workers}
        for number in range(args.rounds):
            for which in list(workers)[:: 1 - 2 * (number % 2)]:
                turns[which].append(_turn(workers[which], num_steps))
        versions = workers[THEIRS[name][0]].ask(do="facts")["versions"]
    _say(f"{name}: { {k: round(statistics.median(v), 4) for k, v in turns.items()} }")
    return {"turns": turns, "moved": moved, "versions": versions}


def check_peers(python: str) -> None:
    """Raises ValueError unless that Python has what the peers need."""
    try:
        done = subprocess.run([python, "-c", NEEDS.format(PEERS)], capture_output=True)
    except OSError as error:
        raise ValueError(f"--torch-python={python}: {error.strerror}.") from error
    if done.returncode:
        raise ValueError(f"--torch-python={python} lacks one of {', '.join(PEERS)}.")


def _chain(
    stack: contextlib.ExitStack,
    name: str,
    words: dict[str, Any],
    folder: str,
) -> Worker:
    worker = Worker(name, OURS, {"folder": folder, "words": words})
    stack.callback(worker.close)
    return worker


def _turn(worker: Worker, num_steps: int) -> float:
    """Seconds a step."""
    time.sleep(PAUSE_SECONDS)
    turn = worker.ask(do="train", num_steps=num_steps)
    if not math.isfinite(turn["loss"]):
        raise RuntimeError(f"{worker.name} moved by {turn['loss']}.")
    return turn["seconds"] / num_steps


def _command(args: argparse.Namespace) -> str:
    """What to type to have this again."""
    only = "".join(f" --only={name!r}" for name in args.only)
    torch = " --torch-python=PYTHON" if args.torch_python else ""
    return (
        f"python benchmarks/optimizers.py --rounds={args.rounds} --steps={args.steps}"
        f"{only}{torch}"
    )


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times every rule beside AdamW, and four beside another library."
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--steps", type=int, default=10, help="timed updates a turn")
    parser.add_argument(
        "--torch-python", default="", help="the Python that has pytorch-optimizer"
    )
    parser.add_argument(
        "--only", action="append", default=[], help="a row, for a trial; repeat it"
    )
    out = ROOT / "docs" / "results" / "optimizers.md"
    parser.add_argument("--out", type=pathlib.Path, default=out, help="the page")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
