"""Claims run and judged, one after the other; what is there already is used."""

import dataclasses
import datetime
import inspect
import pathlib
import time
from collections.abc import Mapping, Sequence

from core.registry import build
from study import sweep
from study.claims import drawn, published
from study.claims.claim import Claim, chosen
from study.claims.criteria import CRITERIA
from study.claims.judged import Judged
from study.claims.runs import runs_of
from study.forks import Grown, grow
from study.outcomes import Outcome
from train.logs import read_json, write_json
from train.provenance import provenance

RECORD = "judged.json"


def run(
    names: Sequence[str],
    *,
    root: pathlib.Path,
    tier: str = "cpu",
    workdir: str,
    out: str,
    overrides: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> list[Judged]:
    """Runs and judges the claims named, or all of a tier, and writes their page.

    A claim's runs are kept in WORKDIR/NAME, so the same call goes on where it was left;
    its verdict is written there too, and the page `out` is of all verdicts of the
    folder, with a picture of each beside it. A claim that fails is published as failed.

    Raises:
      ValueError: one line, before anything runs: no such claim, or a wrong key.
    """
    overrides = overrides or {}
    claims = chosen(root, names, tier, overrides)
    page, found = pathlib.Path(out), []
    for claim in claims:
        folder = pathlib.Path(workdir) / claim.folder
        folder.mkdir(parents=True, exist_ok=True)
        judged = judge(claim, folder, root=root, overrides=overrides, command=command)
        picture = page.with_suffix("") / f"{claim.folder}.png"
        drawn.draw(judged, claim.statement.finding, picture)
        published.write(page, published.records(pathlib.Path(workdir), RECORD))
        print(f"{claim.name}: {judged.kind}. {judged.sentence}", flush=True)
        found.append(dataclasses.replace(judged, claim=claim.name))
    return found


def judge(
    claim: Claim,
    folder: pathlib.Path,
    *,
    root: pathlib.Path,
    overrides: Mapping[str, str],
    command: Sequence[str],
) -> Judged:
    """Runs what is missing of one claim, judges it, and leaves the verdict there."""
    began = time.monotonic()
    given: dict = dict(root=root, folder=folder, overrides=overrides)
    if claim.space is not None:
        assert claim.config is not None
        outcomes = sweep.run(
            claim.config, claim.stated, folder, search=claim.search, command=command
        )
        grown = _grown(claim, folder, outcomes, command)
        given["runs"] = runs_of(claim.space, outcomes, grown)
    criterion = CRITERIA[claim.criterion["name"]].build
    asked = given.keys() & inspect.signature(criterion).parameters.keys()
    judged = build(
        CRITERIA, claim.criterion, "criterion", **{key: given[key] for key in asked}
    )
    path = folder / RECORD
    before = read_json(path)["seconds"] if path.is_file() else 0.0
    facts = provenance(command)
    record = published.record(claim, judged) | {
        # Of a claim that went on, what it took in all.
        "seconds": before + time.monotonic() - began,
        "judged": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{key: facts[key] for key in published.FACTS},
    }
    write_json(path, record)
    return judged


def _grown(
    claim: Claim,
    folder: pathlib.Path,
    found: Sequence[Outcome],
    command: Sequence[str],
) -> list[Grown]:
    """The branches of a claim's trials, trained; none where it states none."""
    if claim.forks is None:
        return []
    assert claim.config is not None
    assert claim.space is not None
    of, word, forks = claim.forks
    retrace = claim.space.retrace
    trunks = [
        one for one in found if (retrace(one.point.overrides) or {}).get(of) == word
    ]
    return grow(claim.config, folder, trunks, forks, command)
