"""Commands that judge many runs: compare, claims, recipe.

Whatever needs JAX is imported once the words are known to be right.
"""

import sys
from collections.abc import Mapping
from typing import Any

from core.command import ANY_KEY, Command, Option
from core.experiment import stated
from core.refusal import one_line, preparing, shown
from core.workdir import folder
from study.commands.beginning import ROOT, RUNNING, spread_over_cores


def compare(
    *,
    places: tuple[str, ...],
    command: list[str],
    out: str,
    by: tuple[str, ...] = (),
    **words: str,
) -> None:
    """Compares the runs in some folders, with statistics, on a page of HTML."""
    with preparing():
        numbers: dict[str, Any] = {
            name: _number(name, words.pop(name))
            for name in ("target", "floor", "margin")
            if name in words
        }
        from study.compare import compare

        found = compare(places, out, by=by, command=command, **words, **numbers)
    print(found.finding)
    for name, verdict in found.verdicts.items():
        print(f"{verdict.kind}  {name}: {verdict.reason}")
    print(f"Page: {found.out}    Numbers: {found.out.parent / 'comparison.json'}")


def claims(
    *,
    command: list[str],
    places: tuple[str, ...] = (),
    overrides: Mapping[str, str],
    tier: str = "cpu",
    workdir: str = "runs/claims",
    out: str = "docs/results/claims.md",
) -> None:
    """Runs published findings, judges them, and writes a page of what held."""
    with preparing(until=(*RUNNING, "study.claims.running.judge")):
        folder(workdir)
        spread_over_cores()
        from study.claims import run

        where: dict[str, Any] = dict(root=ROOT, workdir=workdir, out=out)
        found = run(places, tier=tier, overrides=overrides, command=command, **where)
    print(f"{len(found)} claims judged. Page: {out}")


def recipe(
    *,
    overrides: Mapping[str, str],
    command: list[str],
    config: str,
    budget: str = "",
    workdir: str = "",
    dry_run: bool = False,
) -> None:
    """Spends a budget on an ordered search for a better config, and explains it."""
    with preparing():
        if not (workdir or dry_run):
            raise ValueError("recipe needs --workdir=DIR, where the search is kept.")
        if workdir:
            folder(workdir)
        given = stated(config, ROOT)
        spread_over_cores()
        from core.overrides import resolve
        from study import recipe as recipes
        from study.recipe.budget import seconds_of
        from train.schema import SCHEMA

        if budget or not dry_run:
            seconds_of(budget)
        resolved, notes = resolve(given, overrides, SCHEMA)
        for note in notes:
            print(one_line(note), file=sys.stderr)
        if dry_run:
            print("\n".join(recipes.planned(resolved)))
            print("The search is sound. Nothing was run.", file=sys.stderr)
            return
    with preparing(until=RUNNING):
        found = recipes.run(resolved, budget, workdir, command=command)
    print("\n".join(found.lines))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--{name}={shown(text)} must be a number.") from None


JUDGING = {
    "compare": Command(
        compare,
        {
            "out": Option(
                "the page; comparison.json is put beside it", "FILE.html", True
            ),
            "by": Option("a key whose values are what is compared", "KEY", many=True),
            "baseline": Option("which of them the others are held against", "VALUE"),
            "metric": Option("what ranks (default val_loss)", "NAME"),
            "target": Option("of the time to target", "LOSS"),
            "floor": Option("by how much more an arm must be better (default 0)", "X"),
            "margin": Option("asks instead if arms are equal but for this", "X"),
        },
        "python launch.py compare runs/adam runs/muon --out=report.html",
        places="DIR...",
    ),
    "claims": Command(
        claims,
        {
            "tier": Option("cpu (default), gpu or nightly: what they need", "NAME"),
            "workdir": Option("where runs are kept (runs/claims); goes on", "DIR"),
            "out": Option("the page (docs/results/claims.md)", "FILE.md"),
            ANY_KEY: Option("sets one key in all: --config.data.folder=DIR", "VALUE"),
        },
        "python launch.py claims warmup --config.data.folder=DIR",
        places="[NAME...]",
    ),
    "recipe": Command(
        recipe,
        {
            "config": Option(
                "what the search begins from: an experiment, or a run's config.json",
                "experiments/NAME.py[:OPTIONS]",
                needed=True,
            ),
            "budget": Option("wall time, such as 90s, 30m or 1h30m", "TIME"),
            "workdir": Option("where all is kept; what is there goes on", "DIR"),
            ANY_KEY: Option("sets one key of what is begun from", "VALUE"),
            "dry-run": Option("lists the stages and what they try, and stops"),
        },
        "python launch.py recipe --config=experiments/shakespeare.py --budget=30m "
        "--workdir=runs/recipe --config.data.folder=DIR",
    ),
}
