"""A claim as its file states it: the finding, its source, when it holds, how to try it.

A file of experiments/claims/ has `claim()`; one that trains has `get_config(options)`
as every experiment has, one that sweeps has `sweep()`, and one that branches runs of
its sweep has `branches()`.
"""

import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from core import experiment
from core.overrides import resolve
from core.refusal import listed, nearest, shown
from core.registry import Block, Entry, Range, check, lookup
from core.types import Config
from study.checked import read as read_space
from study.claims.criteria import BLOCK
from study.forks import Forks
from study.search import wanted
from study.search.wanted import Search
from study.space import Space
from train.schema import SCHEMA

Tier = Literal["cpu", "gpu", "nightly"]
TIERS = get_args(Tier)
FOLDER = "experiments/claims"


class Statement(NamedTuple):
    """What a claim says. `row` orders the page; `tier` is where it can be run."""

    finding: str
    source: str
    tier: Tier
    row: int


class Claim(NamedTuple):
    """A claim that was read; without runs of its own it has no space.

    `name` is that of its file, with the options behind a colon if there are any.
    """

    name: str
    path: str
    statement: Statement
    criterion: Mapping[str, Any]
    search: Search
    config: Config | None
    stated: Any
    space: Space | None
    forks: Forks | None

    @property
    def folder(self) -> str:
        """That of its runs, and the name of its picture."""
        return self.name.replace(":", "-").replace(",", "-").replace("=", "-")


_STATEMENT = Block(Entry(Statement, "", {"row": Range("[1, inf)")}))
_SEARCH = Block(Entry(Search, ""))


def names(root: pathlib.Path) -> list[str]:
    """Of the claims that there are."""
    return [
        path.stem
        for path in sorted((root / FOLDER).glob("*.py"))
        if "def claim(" in path.read_text(encoding="utf-8")
    ]


def chosen(
    root: pathlib.Path, wanted: Sequence[str], tier: str, overrides: Mapping[str, str]
) -> list[Claim]:
    """The claims named, of whatever tier, or all of a tier; by their rows.

    Raises:
      ValueError: one line; no such claim or tier, or a file that states none.
    """
    lookup(dict.fromkeys(TIERS), tier, "--tier")
    known = names(root)
    for number, text in enumerate(wanted):
        name = text.partition(":")[0]
        if name not in known:
            raise ValueError(
                f"{shown(name)} is no claim.{nearest(name, known)} "
                f"There are {listed(known)}."
            )
        if text in wanted[:number]:
            raise ValueError(f"{shown(text)} is named twice.")
    found = [read(root, name, overrides) for name in wanted or known]
    kept = [c for c in found if wanted or c.statement.tier == tier]
    return sorted(kept, key=lambda claim: (claim.statement.row, claim.name))


def read(root: pathlib.Path, text: str, overrides: Mapping[str, str]) -> Claim:
    """The claim that `NAME[:OPTIONS]` names, checked.

    Raises:
      ValueError: one line that names the file, or the key and its value.
    """
    name, colon, options = text.partition(":")
    path = root / FOLDER / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    trains, sweeps = (f"def {word}(" in source for word in ("get_config", "sweep"))
    if options and not trains:
        raise ValueError(f"{name} trains nothing, so it takes no {shown(options)}.")
    config = sweep = space = None
    if trains:
        config = experiment.stated(f"{path}{colon}{options}", root)
        config, _ = resolve(config, overrides, SCHEMA)
    if sweeps:
        assert config is not None, f"{path} has sweep() and no get_config()"
        sweep = experiment.space(str(path))
        space = read_space(sweep, config, SCHEMA)
    stated_in = runpy.run_path(str(path))
    said = stated_in["claim"]()
    forks = Forks(**stated_in["branches"]()) if "branches" in stated_in else None
    try:
        check(said, _STATEMENT, "", nested=("criterion", "search"))
        check(said.get("criterion", {}), BLOCK, "criterion")
        check(said.get("search", {}), _SEARCH, "search")
        search = Search(**said.get("search", {}))
        wanted.check(search)
    except ValueError as error:
        raise ValueError(f"{FOLDER}/{name}.py: claim(): {error}") from error
    statement = Statement(**{key: said[key] for key in Statement._fields})
    place, criterion = f"{FOLDER}/{name}.py", said["criterion"]
    return Claim(text, place, statement, criterion, search, config, sweep, space, forks)
