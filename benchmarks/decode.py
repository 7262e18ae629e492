"""Greedy and beam search against Hugging Face's `generate`, in CPU seconds.

    python benchmarks/decode.py --torch-python=PYTHON

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

import decode_problem
import problem
from train_step import PAUSE_SECONDS, check_peers, cpu
from turns import ROOT, Worker

HERE = pathlib.Path(__file__).resolve().parent
NAMES = {
    "ours": "Steepest",
    "stock": "Hugging Face, torch, as installed",
    "unlocked": "the same, MKL's vendor check lifted",
}
# How many times faster than each peer it should be, by beams: of translation alone.
WANTED = {1: {"unlocked": 1.0}, 4: {"stock": 3.0, "unlocked": 2.0}}
TITLES = {
    "translation": "{layers}+{layers} layers (Marian), a source of {length} tokens",
    "language": "{decoder} layers (GPT-2), a prompt of {length} tokens",
}
SEARCHES = {1: "greedy", 4: "beam 4"}

PAGE = """# Decoding against Hugging Face's `generate`

Written by `benchmarks/decode.py`; do not edit.

* Date: {date}. Commit: {commit}{dirty}.
* Command: `{command}`
* Machine: {cpu} ({vectors}), of which {cores} core is used. Load average before:
  {load:.2f}.
* Steepest: {ours}. Hugging Face: {theirs}.
* MKL's vendor check {vendor}.

All: width {width}, MLP {mlp}, {heads} heads, vocabulary {vocab:,}, biases, tied
embeddings, float32, random weights; {rows} texts at once, all rows full; {new} new
tokens each, for random weights end none before. From tokens to tokens: reading the
texts counts. A turn is one batch that is not timed, {steps} that are. All live at once
and work one after another, {rounds} times; ratios are of the same round. CPU seconds
are those of the process, so what else the machine does counts little. Marian:
post-norm, ReLU, sinusoidal places. GPT-2: pre-norm, GELU, learned places. Theirs:
`generate` with the cache it takes by itself, `attn_implementation="sdpa"`, and no
processor of logits but those of its defaults. Ours: the two programs of `predict`.
{tables}"""


def main(argv: list[str]) -> int:
    """Races and writes the page; 2 where the set-up is wrong."""
    args = _parsed(argv)
    try:
        check_peers(args.torch_python)
        load = os.getloadavg()[0]
        # Workers inherit it: one core, and as many threads as their libraries take.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        races = [
            race(family, beams, args)
            for family in decode_problem.FAMILIES
            for beams in decode_problem.BEAMS
        ]
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    args.out.write_text(_page(args, load, races), encoding="utf-8")
    print(f"Written: {args.out}", file=sys.stderr)
    return 0


def race(family: str, beams: int, args: argparse.Namespace) -> dict[str, Any]:
    """One model and one search: `rounds` turns of each contestant, in order."""
    torch = [args.torch_python, str(HERE / "decode_torch.py")]
    commands = {
        "ours": ([sys.executable, str(HERE / "decode_ours.py")], {}),
        "stock": (torch, dict(unlocked=False)),
        "unlocked": (torch, dict(unlocked=True)),
    }
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, (command, more) in commands.items():
            settings = dict(family=family, beams=beams) | more
            workers[name] = Worker(NAMES[name], command, settings)
            stack.callback(workers[name].close)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for number in range(args.rounds):
            for name, worker in workers.items():
                time.sleep(PAUSE_SECONDS)
                turn = worker.ask(do="train", num_steps=args.steps)
                if turn["loss"] != decode_problem.NEW:
                    raise RuntimeError(
                        f"{NAMES[name]} answered {turn['loss']:.0f} tokens, "
                        f"not {decode_problem.NEW}."
                    )
                turns[name].append(turn)
                print(
                    f"{family}, {SEARCHES[beams]}, round {number + 1}, {name}: "
                    f"{turn['cpu_seconds'] / args.steps:.3f} CPU s a batch",
                    file=sys.stderr,
                )
        facts = {name: worker.ask(do="facts") for name, worker in workers.items()}
    return {"family": family, "beams": beams, "turns": turns, "facts": facts}


def _page(args: argparse.Namespace, load: float, races: list[dict[str, Any]]) -> str:
    facts, processor = races[0]["facts"], cpu()
    ours, theirs = facts["ours"], facts["stock"]
    passes = theirs["vendor_check_passes"]
    return PAGE.format(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=ours["commit"],
        dirty=", with changes that are not committed" if ours["dirty"] else "",
        command=f"python benchmarks/decode.py --rounds={args.rounds} "
        f"--steps={args.steps}",
        cpu=processor["model"],
        vectors=processor["vectors"],
        cores=ours["cores"],
        load=load,
        ours=_versions(ours),
        theirs=_versions(theirs),
        vendor="passes on this CPU as it is: lifting it changes nothing here"
        if passes
        else "fails on this CPU",
        width=problem.WIDTH,
        mlp=problem.MLP_WIDTH,
        heads=problem.NUM_HEADS,
        vocab=problem.VOCAB,
        rows=problem.NUM_ROWS,
        new=decode_problem.NEW,
        steps=args.steps,
        rounds=args.rounds,
        tables="".join(_table(race, args.steps) for race in races),
    )


def _versions(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in facts["versions"].items())


def _table(race: dict[str, Any], num_steps: int) -> str:
    """CPU seconds a batch, and how many times faster ours is, round by round."""
    family, beams, facts = race["family"], race["beams"], race["facts"]
    title = TITLES[family].format(
        layers=problem.NUM_LAYERS,
        decoder=decode_problem.NUM_DECODER_LAYERS,
        length=decode_problem.LENGTH,
    )
    lines = [
        f"\n## {title}: {SEARCHES[beams]}\n",
        "| | CPU s a batch, median | min to max | wall s | new tokens/s | RSS GB "
        "| ours is faster | wanted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    seconds = {
        name: [turn["cpu_seconds"] / num_steps for turn in turns]
        for name, turns in race["turns"].items()
    }
    for name, of in seconds.items():
        wall = statistics.median(turn["seconds"] for turn in race["turns"][name])
        ratios = [b / a for a, b in zip(seconds["ours"], of, strict=True)]
        middle = statistics.median(ratios)
        wanted = WANTED[beams].get(name) if family == "translation" else None
        verdict = "" if wanted is None else _verdict(middle, wanted)
        pace = problem.NUM_ROWS * decode_problem.NEW / statistics.median(of)
        lines.append(
            f"| {NAMES[name]} | {statistics.median(of):.3f} "
            f"| {min(of):.3f} to {max(of):.3f} | {wall / num_steps:.3f} "
            f"| {pace:,.0f} | {facts[name]['peak_rss_bytes'] / 1e9:.2f} "
            f"| {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {verdict} |"
        )
    sizes = " and ".join(f"{facts[name]['parameters']:,}" for name in ("ours", "stock"))
    compiled = facts["ours"]["compile_seconds"]
    lines.append(f"\nParameters: {sizes}. Our compilation, once: {compiled:.1f} s.")
    return "\n".join(lines) + "\n"


def _verdict(ratio: float, wanted: float) -> str:
    """Judged before rounding.

    >>> _verdict(1.999, 2.0)
    '2.0: missed'
    """
    return f"{wanted}: {'reached' if ratio >= wanted else 'missed'}"


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--steps", type=int, default=2, help="timed batches a turn")
    parser.add_argument(
        "--torch-python",
        default=sys.executable,
        help="the Python that has torch and transformers (this one)",
    )
    out = ROOT / "docs" / "results" / "decode.md"
    parser.add_argument("--out", type=pathlib.Path, default=out, help="the page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
