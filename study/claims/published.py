"""The page of the claims, docs/results/claims.md, written from what was judged."""

import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from core.settings import dump
from study.claims.claim import Claim
from study.claims.judged import Judged, Part
from train.logs import plain, read_json, write_bytes

FACTS = ("command", "commit", "dirty", "versions", "cores", "device_kind")
HEAD = """# Published findings, tried again

Written by `python launch.py claims`; do not edit.

A claim is an experiment, a space and a criterion, all in its file. PASS: it holds here,
at this size, by its criterion. FAIL: it does not, and stands here all the same.
INVALID: it could not be told, for a best value was the last that was tried, say. Tests
are exact, of signs, one-sided, in pairs of seeds; brackets are 95 % t-intervals, and
the whole interval must be beyond what is asked. Where a claim has several parts, all
of them must hold.
"""


def record(claim: Claim, judged: Judged) -> dict[str, Any]:
    """What is kept of a verdict, as plain data."""
    return {
        "name": claim.name,
        "picture": claim.folder,
        "path": claim.path,
        **claim.statement._asdict(),
        "criterion": plain(claim.criterion),
        "kind": judged.kind,
        "drawn": judged.plot is not None,
        "parts": [_part(part) for part in judged.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    effect = part.effect
    return {
        "asked": part.asked,
        "kind": part.kind,
        "told": part.told,
        "sentence": part.sentence,
        "effect": effect.mean,
        "interval": [effect.low, effect.high],
        "p": part.p,
        "seeds": part.num_seeds,
    }


def records(workdir: pathlib.Path, name: str) -> list[dict[str, Any]]:
    """The verdicts that a folder holds, by row."""
    found = [read_json(path) for path in workdir.glob(f"*/{name}")]
    return sorted(found, key=lambda record: (record["row"], record["name"]))


def write(page: pathlib.Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(page, markdown(found, page.stem).encode())


def markdown(found: Sequence[Mapping[str, Any]], pictures: str) -> str:
    """The page of some verdicts, whose pictures lie in the folder `pictures`."""
    rows = [
        "| claim | verdict | effect | p | seeds | minutes |",
        "|---|---|---|---|---|---|",
        *map(_row, found),
    ]
    total = sum(each["seconds"] for each in found) / 60
    sections = [_section(each, pictures) for each in found]
    told = f"{len(found)} claims, {total:.0f} minutes in all."
    return "\n\n".join([HEAD + "\n" + told, "\n".join(rows), *sections]) + "\n"


def _row(each: Mapping[str, Any]) -> str:
    first = each["parts"][0]
    minutes = f"{each['seconds'] / 60:.1f}"
    anchor = each["name"].replace(":", "")
    cells = (
        f"[{_escaped(each['finding'])}](#{anchor})",
        f"**{each['kind']}**",
        _effect(first),
        _number(first["p"]),
        str(first["seeds"] or ""),
        minutes,
    )
    return f"| {' | '.join(cells)} |"


def _section(each: Mapping[str, Any], pictures: str) -> str:
    lines = [
        f"## {each['name']}",
        f"{_escaped(each['finding'])} **{each['kind']}**",
    ]
    if each["drawn"]:
        picture = f"{pictures}/{each['picture']}.png"
        lines.append(f"![{_escaped(each['finding'])}]({picture})")
    parts = [
        f"* {'told' if part['told'] else part['kind']}: {_escaped(part['asked'])}. "
        f"{_escaped(part['sentence'])}."
        for part in each["parts"]
    ]
    dirty = " with changes" if each["dirty"] else ""
    command = shlex.join(["python", *map(_placeless, each["command"])])
    facts = [
        f"* source: {each['source']}",
        f"* experiment: [{each['path']}](../../{each['path']})",
        f"* command: `{command}`",
        f"* judged {each['judged']}, commit {each['commit']}{dirty}, "
        f"{each['device_kind']}, {each['cores']} cores, jax {each['versions']['jax']}",
    ]
    criterion = dump(each["criterion"])
    lines += ["\n".join(parts), "\n".join(facts), f"```json\n{criterion}\n```"]
    return "\n\n".join(lines)


def _placeless(word: str) -> str:
    """A word of the command without where things lay."""
    flag, equals, _ = word.partition("=")
    places = ("--workdir", "--out", "--config.data.folder")
    return f"{flag}=DIR" if equals and flag in places else word


def _effect(part: Mapping[str, Any]) -> str:
    low, high = part["interval"]
    if math.isnan(part["effect"]):
        return ""
    told = _number(part["effect"])
    bounded = math.isfinite(low) and math.isfinite(high)
    return f"{told} [{_number(low)}, {_number(high)}]" if bounded else told


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _escaped(text: str) -> str:
    """Text that Markdown takes for text; HTML in it, too."""
    for letter, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(letter, written)
    return text
