"""The command line: one table of commands, each a function.

    python launch.py train --config=experiments/localize.py:tiny --workdir=/tmp/run
    python launch.py --help

What the user got wrong is one line on stderr and exit code 2; `core/exits.py` has the
other codes. Whatever needs JAX is imported once the words are known to be right.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.command import ANY_KEY, Command, Option, choose, explain, overview, parse
from core.exits import DONE, PREEMPTED, REFUSED, Stop
from core.experiment import stated
from core.refusal import Refused, nearest, one_line, preparing, short, shown
from core.workdir import folder, run_folder
from study.commands import STUDY

ROOT = Path(__file__).resolve().parent

# Functions of a run that has begun: an error in them is no longer the user's.
RUNNING = ("train.loop.fit", "train.run._finish")

# Checkpoints that have no number.
WORDS = re.compile("best|latest|average:[1-9][0-9]{0,3}", re.ASCII)


def train(
    *,
    overrides: Mapping[str, str],
    command: list[str],
    config: str,
    workdir: str = "",
    allow_drift: tuple[str, ...] = (),
    dry_run: bool = False,
    profile: bool = False,
) -> None:
    """Trains what a config describes; a folder that holds a run goes on with it."""
    with preparing():
        if not (workdir or dry_run):
            raise ValueError("train needs --workdir=DIR, where the run is kept.")
        if workdir:
            folder(workdir)
        given = load(config)
        from core.overrides import resolve
        from core.settings import dump
        from train import assemble, run
        from train.schema import SCHEMA

        resolved, notes = resolve(given, overrides, SCHEMA)
        assemble.check(resolved)
        for note in notes:
            print(one_line(note), file=sys.stderr)
        if dry_run:
            assemble.dry_run(resolved)
            print(dump(resolved))
            print("The config is sound. Nothing was run.", file=sys.stderr)
            return
    with preparing(until=RUNNING):
        run.train(
            resolved, workdir, allow_drift=allow_drift, profile=profile, command=command
        )


def evaluate(
    *,
    overrides: Mapping[str, str],
    workdir: str,
    split: str = "test",
    checkpoint: str = "best",
) -> None:
    """Scores a run, and what it answers, on a split of its data."""
    with preparing():
        run_folder(workdir)
        _only_decode(overrides)
        step = checkpoint.isascii() and checkpoint.isdigit() and len(checkpoint) < 20
        if not (step or WORDS.fullmatch(checkpoint)):
            raise ValueError(
                f"--checkpoint={shown(checkpoint)} must be best, latest or a step, or "
                "average:K, the mean of the last K."
                f"{nearest(checkpoint, ('best', 'latest'))}"
            )
        from train.evaluate import evaluate

        which = int(checkpoint) if step else checkpoint
        evaluate(workdir, split=split, checkpoint=which, overrides=overrides)


def predict(
    *,
    overrides: Mapping[str, str],
    workdir: str,
    text: str | None = None,
) -> None:
    """Answers or continues a text, or each line of stdin.

    Of several answers to a text each is a line, behind its score. Where lines are
    counted, a line break within an answer is written \\n.
    """
    with preparing():
        run_folder(workdir)
        _only_decode(overrides)
        from train.generate import predict

        lines = _stdin() if text is None else iter([text])
        for answers in predict(workdir, lines, overrides=overrides):
            for said, score in answers:
                if text is None or len(answers) > 1:
                    said = said.replace("\n", "\\n")
                print(f"{score:.4f}\t{said}" if len(answers) > 1 else said, flush=True)


def techniques(*, family: str = "", markdown: bool = False) -> None:
    """Prints every technique: its paper, who provides it, its numbers, cost, proof."""
    with preparing():
        from train import catalogue

        found = catalogue.techniques(family)
        shown_as = catalogue.as_markdown if markdown else catalogue.as_text
        print(shown_as(found), end="")


WORKDIR = Option("the folder of the run", "DIR", needed=True)
DECODING = Option("changes how it decodes: --config.decode.beam=8", "VALUE")

COMMANDS = {
    "train": Command(
        train,
        {
            "config": Option(
                "an experiment, or the config.json of a run",
                "experiments/NAME.py[:OPTIONS]",
                needed=True,
            ),
            "workdir": Option(
                "where the run is kept; one that is there goes on", "DIR"
            ),
            ANY_KEY: Option("sets one key, such as --config.seed=1", "VALUE"),
            "allow-drift": Option(
                "goes on although this changed since the run began", "KEY", many=True
            ),
            "dry-run": Option("checks everything, prints the config, and stops"),
            "profile": Option("writes a trace of some steps"),
        },
        "python launch.py train --config=experiments/localize.py:tiny --workdir=runs/a",
    ),
    "evaluate": Command(
        evaluate,
        {
            "workdir": WORKDIR,
            "split": Option("train, validation or test (the default)", "SPLIT"),
            "checkpoint": Option("best (default), latest, a step, average:K", "WHICH"),
            ANY_KEY: DECODING,
        },
        "python launch.py evaluate --workdir=runs/localize --split=validation",
    ),
    "predict": Command(
        predict,
        {
            "workdir": WORKDIR,
            "text": Option("what to answer; without it, each line of stdin", "TEXT"),
            ANY_KEY: DECODING,
        },
        "python launch.py predict --workdir=runs/shakespeare --text='ROMEO:' "
        "--config.decode.name=sample --config.decode.temperature=0.8",
    ),
    **STUDY,
    "techniques": Command(
        techniques,
        {
            "family": Option("only those of a block of the config", "BLOCK"),
            "markdown": Option("as the page docs/techniques.md"),
        },
        "python launch.py techniques --family=optim",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` spells; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        with preparing():
            if not argv or argv[0] in ("--help", "-h"):
                print(overview(COMMANDS), file=sys.stdout if argv else sys.stderr)
                return DONE if argv else REFUSED
            name, *words = argv
            command = choose(name, COMMANDS)
            if "--help" in words or "-h" in words:
                print(explain(name, command))
                return DONE
            options, overrides = parse(name, command, words)
            if ANY_KEY in command.options:
                options["overrides"] = overrides
            known = {"command": ["launch.py", *argv], "commands": COMMANDS}
            asked = inspect.signature(command.run).parameters
            options |= {key: known[key] for key in known if key in asked}
        command.run(**options)
    except Refused as refused:
        print(one_line(str(refused)), file=sys.stderr)
        return REFUSED
    except Stop as stop:
        print(one_line(str(stop)), file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return PREEMPTED
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def load(text: str) -> dict[str, Any]:
    """What `--config=` names, among the experiments of this folder."""
    return stated(text, ROOT)


def _only_decode(overrides: Mapping[str, str]) -> None:
    """Raises ValueError for a key that is no longer open once a run is trained."""
    for key, value in overrides.items():
        if not key.startswith("decode."):
            raise ValueError(
                f"--config.{short(key)}={shown(value)} would be another run: "
                "of one that is trained, only keys such as decode.beam may change."
            )


def _stdin() -> Iterator[str]:
    """The lines of stdin, without their ends."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"stdin, line {number} is no UTF-8.") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
