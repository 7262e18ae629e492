"""A sweep: the trials of a space, as many as can be in one program.

The run folders are the truth. What is to be done next follows from them alone, so a
sweep that is killed goes on by the same command, and no trial is trained twice.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from cluster.engine import Engine
from core.refusal import shown
from core.settings import dump, load
from core.types import Config
from data.prepare import prepare
from study import outcomes, spread, sweep_plot, table
from study.checked import read as read_space
from study.groups import grouped
from study.member import Member
from study.outcomes import Outcome
from study.pack import Pack
from study.point import Point, configure
from study.search import wanted as searches
from study.search.wanted import Search, Wish
from train.assemble import Parts, check, put_together
from train.folder import Folder, locked
from train.logs import write_bytes
from train.range_test import is_range_test
from train.schema import SCHEMA
from train.shelf import Shelf
from train.trials import trial_mesh
from train.xla_cache import use_compilation_cache

RECORD = "sweep.json"  # what is searched, and how


def run(
    config: Config,
    stated: Any,
    workdir: str | pathlib.Path,
    *,
    search: Search,
    engine: Engine | None = None,
    command: Sequence[str] = (),
) -> list[Outcome]:
    """Runs the search of what `sweep()` `stated` over a resolved config, or goes on.

    Without an `engine` here, on all devices; else by its processes.

    Raises:
      ValueError: the space, a point of it, or the folder, which holds another sweep;
        before the first step.
      Stop: asked to leave, or the disk is full; the same call goes on.
    """
    use_compilation_cache()
    folder, space = pathlib.Path(workdir), read_space(stated, config, SCHEMA)
    searches.check(search)
    max_steps = _length(config)
    points = searches.first_points(search, space, max_steps)
    for point in points:
        configured(config, point)
    with locked(folder):
        enter(folder, config, stated, search, command)
        for point in points:
            outcomes.add(folder, point)
        while wishes := searches.wanted(
            search, space, outcomes.read(folder), max_steps
        ):
            for wish in wishes:
                outcomes.add(folder, wish.point)
            if engine is None:
                train(config, folder, wishes, command)
            else:
                spread.spread(folder, wishes, engine)
        return outcomes.read(folder)


def train_part(workdir: str, name: str, command: Sequence[str]) -> None:
    """Trains a part of a sweep that an engine was given.

    Raises:
      ValueError: there is no such sweep or part.
      Stop: as `run`.
    """
    use_compilation_cache()
    folder = pathlib.Path(workdir)
    if not (folder / RECORD).is_file():
        raise ValueError(f"--workdir={shown(workdir, 90)} holds no sweep.")
    config = load(folder / RECORD)["config"]
    train(config, folder, spread.read(folder, name), command)


def planned(config: Config, stated: Any, search: Search) -> list[str]:
    """The names of the points that are known before anything has run, all checked.

    Raises:
      ValueError: one line.
    """
    space = read_space(stated, config, SCHEMA)
    points = searches.first_points(search, space, _length(config))
    for point in points:
        configured(config, point)
    return [point.name for point in points]


def summed_up(sweep: pathlib.Path, found: Sequence[Outcome]) -> list[str]:
    """Writes table and picture of a sweep; the best settings, and where all is."""
    lines = table.told(found)
    lines.append(f"Table: {table.write(sweep, found)}")
    if picture := sweep_plot.draw(sweep, found):
        lines.append(f"Picture: {picture}")
    return lines


def configured(config: Config, point: Point) -> Config:
    """The resolved config of a point, which is checked as that of a run is.

    Raises:
      ValueError: one line.
    """
    found = configure(config, point, SCHEMA)
    check(found, shares=1)
    if is_range_test(found):
        raise ValueError("A range test is a run alone: give it to train, not to sweep.")
    return found


def enter(
    folder: pathlib.Path,
    config: Config,
    stated: Any,
    search: Search,
    command: Sequence[str],
) -> None:
    """Begins a sweep in the folder, or finds the same one in it.

    Raises:
      ValueError: the folder holds another.
    """
    record = {
        "format": 1,
        "config": config,
        "space": stated,
        "search": search._asdict(),
    }
    path = folder / RECORD
    if path.is_file():
        before = load(path)
        for key, value in record.items():
            if dump(before.get(key)) != dump(value):
                raise ValueError(
                    f"{folder} holds another sweep: its {key} is another one. Take "
                    "another --workdir."
                )
        return
    if (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds a run, and no sweep.")
    whole = record | {"command": tuple(command)}
    write_bytes(path, dump(whole).encode() + b"\n")


def train(
    config: Config,
    folder: pathlib.Path,
    wishes: Sequence[Wish],
    command: Sequence[str],
) -> None:
    """Trains what is wished, trials of one program together."""
    everyone = [outcome.point for outcome in outcomes.read(folder)]
    configs = {point.id: configured(config, point) for point in everyone}
    until = {wish.point.id: wish.until for wish in wishes}
    mesh = trial_mesh()
    for group in grouped([configs[point.id] for point in everyone]):
        points = [everyone[n] for n in group.trials if everyone[n].id in until]
        if not points:
            continue
        prepared = prepare(configs[points[0].id])
        at_step: dict[tuple[int, int], list[Member]] = {}
        for point in points:
            parts = put_together(configs[point.id], prepared, mesh, group.on)
            run_folder = Folder(outcomes.trial_folder(folder, point))
            member = Member(parts, run_folder, min(until[point.id], parts.num_steps))
            place = (_durable_step(run_folder, parts), member.until)
            at_step.setdefault(place, []).append(member)
        for members in at_step.values():
            while members:
                pack = Pack(members, len(group.trials))
                pack.run(command)
                members = members[len(pack.members) :]


def _durable_step(folder: Folder, parts: Parts) -> int:
    """The step of the last checkpoint; 0 before there is one."""
    if not folder.checkpoints.is_dir():
        return 0
    shelf = Shelf(folder.checkpoints.absolute(), parts.config["checkpoint"]["best"])
    return max(shelf.listed(), default=0)


def _length(config: Config) -> int:
    """The steps of the config's runs."""
    if config["num_steps"]:
        return config["num_steps"]
    prepared = prepare(config)
    return put_together(config, prepared, trial_mesh()).num_steps
