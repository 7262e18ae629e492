"""The trials of a sweep on other processes or machines, a part of them each.

    SWEEP/chunks/NAME.json      which trials a process is to train, and how far
    SWEEP/logs/NAME.log         what it printed
    SWEEP/jobs.jsonl            what was started and how it ended

A process that is killed is started again and goes on from the run folders; so does a
controller. What cannot be run is given up, a trial at a time: it has failed.
"""

import hashlib
import pathlib
import sys
from collections.abc import Iterable, Sequence

from cluster.dispatch import dispatch
from cluster.engine import Engine, Job
from cluster.record import failed
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

    What a process that was killed too often has left is halved and tried again: one of
    its trials may be at fault, and it alone is to fail.

    Raises:
      ValueError: the engine refuses them.
    """
    parts = [wishes[n :: engine.capacity] for n in range(engine.capacity)]
    while parts := [part for part in parts if part]:
        chunks = {write(folder, part): part for part in parts}
        parts = []
        for name, code in _dispatched(folder, chunks, engine).items():
            left = [wish for wish in chunks[name] if not _reached(folder, wish)]
            if failed(code) and len(left) > 1:
                parts += [left[::2], left[1::2]]
            elif code != DONE:
                log = folder / "logs" / f"{name}.log"
                for wish in left:
                    place = outcomes.trial_folder(folder, wish.point)
                    outcomes.fail(place, f"Its process ended with code {code}: {log}")


def _dispatched(
    folder: pathlib.Path, chunks: Iterable[str], engine: Engine
) -> dict[str, int]:
    """The codes with which the processes of some parts ended."""
    words = (sys.executable, str(LAUNCH), "trials", f"--workdir={folder.absolute()}")
    jobs = [
        Job(name, (*words, f"--chunk={name}"), folder / "logs" / f"{name}.log")
        for name in chunks
    ]
    return dispatch(
        jobs,
        engine,
        record=folder / "jobs.jsonl",
        attempts=ATTEMPTS,
        every_seconds=EVERY_SECONDS,
    )


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


def _reached(folder: pathlib.Path, wish: Wish) -> bool:
    """Whether a trial has come as far as was wished, or has ended."""
    outcome = outcomes.outcome_of(outcomes.trial_folder(folder, wish.point))
    ended = outcome.state in outcomes.ENDED
    return ended or wish.until in outcomes.scores_of(outcome.folder)
