"""The trials of a sweep on other processes or machines, a part of them each.

    SWEEP/chunks/NAME.json      which trials a process is to train, and how far
    SWEEP/logs/NAME.log         what it printed
    SWEEP/jobs.jsonl            what was started and how it ended

A process that is killed is started again and goes on from the run folders; so does a
controller. What cannot be run is given up: its trials have failed.
"""

import hashlib
import pathlib
import sys
from collections.abc import Sequence

from cluster.dispatch import dispatch
from cluster.engine import Engine, Job
from core.exits import DONE
from core.refusal import shown
from study import outcomes
from study.search.wanted import Wish
from train.logs import read_json, write_json

LAUNCH = pathlib.Path(__file__).resolve().parent.parent / "launch.py"
ATTEMPTS = 3  # of a process that is killed; one that was preempted has any number
EVERY_SECONDS = 0.5


def spread(folder: pathlib.Path, wishes: Sequence[Wish], engine: Engine) -> None:
    """Has every wish trained by one of the engine's processes; returns at their end.

    Raises:
      ValueError: the engine refuses them.
    """
    parts = [wishes[n :: engine.capacity] for n in range(engine.capacity)]
    chunks = {write(folder, part): part for part in parts if part}
    words = (sys.executable, str(LAUNCH), "trials", f"--workdir={folder.absolute()}")
    jobs = [
        Job(name, (*words, f"--chunk={name}"), folder / "logs" / f"{name}.log")
        for name in chunks
    ]
    codes = dispatch(
        jobs,
        engine,
        record=folder / "jobs.jsonl",
        attempts=ATTEMPTS,
        every_seconds=EVERY_SECONDS,
    )
    for name, code in codes.items():
        if code != DONE:
            reason = f"Its process ended with code {code}: {folder / 'logs' / name}.log"
            _give_up(folder, chunks[name], reason)


def write(folder: pathlib.Path, wishes: Sequence[Wish]) -> str:
    """Notes a part of the sweep; its name is that of its content."""
    told = [[wish.point.name, wish.until] for wish in wishes]
    name = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    (folder / "chunks").mkdir(exist_ok=True)
    write_json(folder / "chunks" / f"{name}.json", {"trials": told})
    return name


def read(folder: pathlib.Path, name: str) -> list[Wish]:
    """The trials of a part that are not at their ends yet.

    Raises:
      ValueError: the sweep has no such part.
    """
    path = folder / "chunks" / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"--chunk={shown(name)} is no part of the sweep in {folder}.")
    told = [
        (outcomes.outcome_of(folder / "trials" / trial), until)
        for trial, until in read_json(path)["trials"]
    ]
    return [
        Wish(outcome.point, until)
        for outcome, until in told
        if outcome.state not in outcomes.ENDED
    ]


def _give_up(folder: pathlib.Path, wishes: Sequence[Wish], reason: str) -> None:
    for wish in wishes:
        outcome = outcomes.outcome_of(outcomes.trial_folder(folder, wish.point))
        reached = wish.until in outcomes.scores_of(outcome.folder)
        if outcome.state not in outcomes.ENDED and not reached:
            outcomes.fail(outcome.folder, reason)
