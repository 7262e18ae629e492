"""A page that says which arm is better, out of any run folders, and how surely.

`compare` reads what runs wrote about themselves, judges it by `study/verdict.py`, and
writes one HTML file and `comparison.json` beside it, which has the same numbers.
"""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from core.refusal import shown
from study.compare import (
    compute,
    differences,
    importance,
    overview,
    quality,
    race,
    ranking,
    record,
    scale,
    tuning,
)
from study.compare.contest import Contest, contest, finding
from study.compare.page import page
from study.compare.runs import read, scored
from study.compare.section import Section
from study.verdict import Above, Verdict, Within
from train.logs import plain, read_json, write_bytes, write_json
from train.provenance import redacted

FORMAT = 1
JSON = "comparison.json"
SECTIONS = (
    ranking.leaderboard,
    differences.differences,
    race.time_to_target,
    race.profile,
    tuning.sensitivity,
    compute.against_compute,
    scale.law_of_compute,
    tuning.best_of_k,
    importance.importance,
    quality.pareto,
    record.lost,
    record.configs,
    record.provenance,
)


class Comparison(NamedTuple):
    """The finding in a sentence, the verdict on each arm by its name, and all numbers.

    `record` is what `comparison.json` has.
    """

    finding: str
    verdicts: dict[str, Verdict]
    record: dict[str, Any]
    out: pathlib.Path


def compare(
    paths: Sequence[str],
    out: str,
    *,
    by: Sequence[str] = (),
    baseline: str = "",
    metric: str = "val_loss",
    target: float | None = None,
    floor: float = 0.0,
    margin: float | None = None,
    command: Sequence[str] = (),
) -> Comparison:
    """Compares the runs in some folders, and writes what came of it to `out`.

    A path is a run folder or one that holds such at any depth. Arms are told apart by
    the keys `by`; without them each path is an arm, and of one path the keys with words
    that differ. All else that differs was tuned. Asked is whether an arm is better than
    the baseline by more than `floor`, or, with a `margin`, whether both are equal but
    for that. `target` is that of the time to target: by default the median final score
    of the baseline. `command` is what makes the page again.

    Raises:
      ValueError: in one line, a path, key, arm or metric that is not there, or a folder
        that has another page; before anything is written.
    """
    page_path = _page_path(out)
    if margin is not None and not margin > 0:
        raise ValueError(f"margin={shown(margin)} must be above 0.")
    for name, number in (("floor", floor), ("margin", margin), ("target", target)):
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{name}={number} must be a finite number.")
    if margin is not None and floor:
        raise ValueError(
            f"floor={floor} asks who is better, margin={margin} who is equal: "
            "give one of them."
        )
    command = redacted(command, os.environ)
    question = Above(floor) if margin is None else Within(margin)
    found = scored(read(paths), metric)
    options = {"by": by, "baseline": baseline, "metric": metric, "target": target}
    judged = contest(found, paths, question=question, command=command, **options)
    parts = [section(judged) for section in SECTIONS]
    says = finding(judged)
    known = _record(judged, says, parts) | {"page": page_path.name}
    text = page(says, _lead(judged), overview.overview(judged), parts)
    page_path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(page_path, text.encode())
    write_json(page_path.parent / JSON, known)
    return Comparison(says, dict(judged.verdicts), known, page_path)


def _page_path(out: str) -> pathlib.Path:
    path = pathlib.Path(out)
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"out={shown(out)} must be the name of an .html file.")
    if path.is_dir():
        raise ValueError(f"out={shown(out)} is a folder; name a file in it.")
    if (path.parent / JSON).is_file():
        other = read_json(path.parent / JSON).get("page", path.name)
        if other != path.name:
            raise ValueError(
                f"out={shown(out)}: {JSON} beside it has the numbers of {other}; put "
                "this page into another folder."
            )
    return path


def _lead(judged: Contest) -> str:
    """Whom the comparison is among, and what else there is to know at once."""
    found, arms = judged.found, judged.arms
    seeds = {run.seed for run in found.runs}
    settings = sum(len(arm.settings) for arm in arms)
    told = (
        f"{len(found.runs)} runs: arms {len(arms)}, settings {settings}, seeds "
        f"{len(seeds)}. {judged.metric} ranks, {judged.better} is better."
    )
    if judged.candidates:
        told += f" The baseline is {judged.baseline.name}."
    if len(arms) == 1 and arms[0].keys:
        told += f" Keys that could tell arms apart: {', '.join(arms[0].keys)}."
    wrong = sum(verdict.kind == "INVALID" for verdict in judged.verdicts.values())
    if wrong:
        told += f" Comparisons that are INVALID: {wrong} of {len(judged.verdicts)}."
    if judged.empty:
        told += f" Without any run that has a result: {', '.join(judged.empty)}."
    if found.unread:
        told += f" Left out, for they have no result: {len(found.unread)} runs."
    return told


def _record(judged: Contest, says: str, parts: Sequence[Section]) -> dict[str, Any]:
    question = {"kind": type(judged.question).__name__.lower()}
    known = {
        "format": FORMAT,
        "finding": says,
        "metric": judged.metric,
        "better": judged.better,
        "baseline": judged.baseline.name,
        "question": question | judged.question._asdict(),
        **{part.key: part.data for part in parts},
        "absent": {part.key: part.absent for part in parts if part.absent},
    }
    return plain(known)
