"""The commands over many runs: sweep, its parts, branch, compare, claims, recipe.

Whatever needs JAX is imported once the words are known to be right.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.command import ANY_KEY, Command, Option
from core.experiment import space, stated
from core.refusal import one_line, preparing, shown
from core.workdir import folder, run_folder

ROOT = Path(__file__).resolve().parent.parent

# Functions of a run that has begun: an error in them is no longer the user's.
RUNNING = ("train.loop.fit", "study.member.finish")


def sweep(
    *,
    overrides: Mapping[str, str],
    command: list[str],
    config: str,
    workdir: str = "",
    dry_run: bool = False,
    engine: str = "",
    workers: str = "",
    **search: str,
) -> None:
    """Trains the points of an experiment's sweep(), many of them in one program."""
    with preparing():
        if not (workdir or dry_run):
            raise ValueError("sweep needs --workdir=DIR, where the runs are kept.")
        if workdir:
            folder(workdir)
        given, stated_space = stated(config, ROOT), space(config)
        _spread_over_cores()
        from cluster.choose import engine_of
        from core.overrides import resolve
        from study import sweep as sweeps
        from study.search.wanted import stated as search_of
        from train.schema import SCHEMA

        chosen = engine_of(engine, workers)
        resolved, notes = resolve(given, overrides, SCHEMA)
        for note in notes:
            print(one_line(note), file=sys.stderr)
        if dry_run:
            points = sweeps.planned(resolved, stated_space, search_of(search))
            print("\n".join(points))
            print("The sweep is sound. Nothing was run.", file=sys.stderr)
            return
    with preparing(until=RUNNING):
        found = sweeps.run(
            resolved,
            stated_space,
            workdir,
            search=search_of(search),
            engine=chosen,
            command=command,
        )
    for line in sweeps.summed_up(Path(workdir), found):
        print(line)


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
        _spread_over_cores()
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


def trials(*, workdir: str, chunk: str, command: list[str]) -> None:
    """Trains a part of a sweep; what the engines of a sweep start."""
    with preparing(until=RUNNING):
        _spread_over_cores()
        from study.sweep import train_part

        train_part(workdir, chunk, command)


def branch(
    *,
    overrides: Mapping[str, str],
    command: list[str],
    trunk: str,
    step: str,
    workdir: str,
    allow_drift: tuple[str, ...] = (),
) -> None:
    """Goes on from a checkpoint of a run in another way, in a folder of its own."""
    with preparing(until=(*RUNNING, "train.run._finish")):
        run_folder(trunk, "--trunk")
        folder(workdir)
        if not (step.isascii() and step.isdigit() and len(step) < 20):
            raise ValueError(f"--step={shown(step)} must be a step, a whole number.")
        from core.overrides import resolve
        from study import trunk as trunks
        from train import assemble, run
        from train.folder import Folder
        from train.schema import SCHEMA

        of = Folder(trunk)
        config, notes = resolve(of.read_config(), overrides, SCHEMA)
        for note in notes:
            print(one_line(note), file=sys.stderr)
        fork = trunks.fork_at(of, int(step))
        into = Path(workdir) / trunks.named(fork, config)
        assemble.check(config)
        parts = assemble.assemble(config, of.read_tokenizer())
        trunks.branch(of, fork.step, parts, into)
        print(f"Branch: {into}")
        run.train(config, str(into), allow_drift=allow_drift, command=command)


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
        _spread_over_cores()
        from study.claims import run

        where: dict[str, Any] = dict(root=ROOT, workdir=workdir, out=out)
        found = run(places, tier=tier, overrides=overrides, command=command, **where)
    print(f"{len(found)} claims judged. Page: {out}")


def _spread_over_cores() -> None:
    from train.trials import spread_over_cores

    spread_over_cores()


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--{name}={shown(text)} must be a number.") from None


STUDY = {
    "sweep": Command(
        sweep,
        {
            "config": Option(
                "an experiment with a sweep()",
                "experiments/NAME.py[:OPTIONS]",
                needed=True,
            ),
            "workdir": Option("where the runs are kept; what is there goes on", "DIR"),
            ANY_KEY: Option("sets one key in every point", "VALUE"),
            "search": Option(
                "grid (default), random, halton, sobol, tpe, halving, hyperband", "NAME"
            ),
            "trials": Option("settings to try; each is run with all seeds", "N"),
            "seed": Option("of what the search draws (default 0)", "N"),
            "factor": Option("halving keeps one of so many (default 3)", "N"),
            "min-steps": Option("of halving's first rung at least (default 1)", "N"),
            "parallel": Option("settings that tpe asks for at once (default 8)", "N"),
            "engine": Option("processes, slurm or ray; without it, here", "NAME"),
            "workers": Option("processes of the engine at once", "N"),
            "dry-run": Option("checks every point, lists them, and stops"),
        },
        "python launch.py sweep --config=experiments/sweep_rates.py "
        "--workdir=runs/rates --search=halving --trials=27",
    ),
    "branch": Command(
        branch,
        {
            "trunk": Option("the folder of the run to branch from", "DIR", needed=True),
            "step": Option(
                "one that it has a checkpoint of; checkpoint.every_steps and "
                "checkpoint.keep of the trunk say which stay",
                "N",
                needed=True,
            ),
            "workdir": Option(
                "where branches are kept, each in a folder named by its content; one "
                "that is there goes on",
                "DIR",
                needed=True,
            ),
            ANY_KEY: Option("what the branch has otherwise than its trunk", "VALUE"),
            "allow-drift": Option(
                "goes on although this changed since the trunk ran", "KEY", many=True
            ),
        },
        "python launch.py branch --trunk=runs/long --step=160 --workdir=runs/branches "
        "--config.num_steps=200 --config.optim.schedule.decay_steps=40",
    ),
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
    "trials": Command(
        trials,
        {
            "workdir": Option("the folder of the sweep", "DIR", needed=True),
            "chunk": Option("a part, by its name in DIR/chunks", "NAME", needed=True),
        },
        "python launch.py trials --workdir=runs/rates --chunk=0123456789abcdef",
    ),
}
