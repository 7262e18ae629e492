"""Commands that train many runs: sweep, its parts, branch.

Whatever needs JAX is imported once the words are known to be right.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from core.command import ANY_KEY, Command, Option
from core.experiment import space, stated
from core.refusal import one_line, preparing, shown
from core.workdir import folder, run_folder
from study.commands.beginning import ROOT, RUNNING, spread_over_cores


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
        spread_over_cores()
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


def trials(*, workdir: str, chunk: str, command: list[str]) -> None:
    """Trains a part of a sweep; what the engines of a sweep start."""
    with preparing(until=RUNNING):
        spread_over_cores()
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


TRAINING = {
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
    "trials": Command(
        trials,
        {
            "workdir": Option("the folder of the sweep", "DIR", needed=True),
            "chunk": Option("a part, by its name in DIR/chunks", "NAME", needed=True),
        },
        "python launch.py trials --workdir=runs/rates --chunk=0123456789abcdef",
    ),
}
