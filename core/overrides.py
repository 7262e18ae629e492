"""`--config.KEY=VALUE`: texts typed over a config, each read as the type of its key."""

import math
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from core.numbers import at
from core.refusal import listed, nearest, short, shown
from core.registry import kinds, under, wanted
from core.settings import Blocks, check_all, children, complete, filled
from core.types import Config, Number

INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*", re.ASCII)
FLOAT = re.compile(
    r"[+-]?(inf|([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?)", re.ASCII | re.I
)
DIGITS = 60  # no number of a config has more; Python refuses thousands of them
ITEM = re.compile(
    r"""\s*(?:'([^']*)'|"([^"]*)")\s*(?:,|$)"""  # quoted
    r"""|([^,'"()\[\]]+)(?:,|$)"""  # bare
)
BOOLS = {"true": True, "True": True, "false": False, "False": False}


def resolve(
    config: Config, typed: Mapping[str, str], blocks: Blocks
) -> tuple[dict[str, Any], list[str]]:
    """The complete, checked config under the typed texts, and what to tell the user.

    Texts may come in any order: names are applied first, so that the keys of a newly
    named builder can be typed beside its name.

    Raises:
      ValueError: one line that names the key, its value and what is allowed.
    """
    config, notes = complete(config, blocks), []
    renaming = [key for key in typed if _names(key, blocks)]
    for key in renaming:
        notes += _rename(config, key.rpartition(".")[0], typed[key], blocks)
    for key in typed:
        if key not in renaming:
            _set(config, key, typed[key], blocks)
    check_all(config, blocks)
    return config, notes


def read(key: str, text: str, annotation: Any) -> Any:
    """The value that `text` spells for a key of that type.

    An integer is a float too (`1` is 1.0), but no float is an integer (`1e3`). A text
    stands as it is; an empty one is spelled ''.

    Raises:
      ValueError: it spells none.

    >>> read("b1", "1e-3", float), read("langs", "de,fr", tuple[str, ...])
    (0.001, ('de', 'fr'))
    """
    if typing.get_origin(annotation) is typing.Literal:
        return _choice(
            key, text, {str(word): word for word in typing.get_args(annotation)}
        )
    if typing.get_origin(annotation) is tuple:
        value = _items(text, annotation)
    else:
        value = _READERS[annotation](text)
    if value is None:
        raise ValueError(f"{key}={shown(text)} must be {wanted(annotation)}.")
    return value


def _choice(key: str, text: str, words: Mapping[str, Any]) -> Any:
    if text not in words:
        raise ValueError(
            f"{key}={shown(text)} is not known.{nearest(text, words)} "
            f"Known: {listed(words)}."
        )
    return words[text]


def _text(text: str) -> str:
    return "" if text in ("''", '""') else text


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= DIGITS and INTEGER.fullmatch(text) else None


def _float(text: str) -> float | None:
    """None for NaN, and for what a double would turn into infinity or zero."""
    if len(text) > DIGITS or not FLOAT.fullmatch(text):
        return None
    value = float(text)
    spelled_inf = "inf" in text.lower()
    lost = value == 0 and re.search("[1-9]", text.lower().partition("e")[0])
    return None if lost or (math.isinf(value) and not spelled_inf) else value


def _items(text: str, annotation: Any) -> tuple[Any, ...] | None:
    """The items of `a,b`, `(a, b)` or `('a', 'b')`; an empty tuple is `()`."""
    bare = text.strip()
    if bare[:1] + bare[-1:] in ("()", "[]") and len(bare) > 1:
        bare = bare[1:-1].strip()
    elif not bare:
        return None
    found, place = [], 0
    while place < len(bare):
        match = ITEM.match(bare, place)
        if match is None or (match[3] and not match[3].strip()):
            return None
        plain = match[3]
        quoted = match[1] if match[2] is None else match[2]
        found.append((quoted if plain is None else plain.strip(), plain is None))
        place = match.end()
    expected = kinds(annotation, len(found))
    if len(expected) != len(found):
        return None
    values = [
        (item if kind is str else None) if quoted else _READERS[kind](item)
        for (item, quoted), kind in zip(found, expected, strict=True)
    ]
    return None if None in values else tuple(values)


_READERS: dict[Any, Callable[[str], Any]] = {
    Number: _float,
    float: _float,
    int: _integer,
    bool: BOOLS.get,
    str: _text,
}


def _names(key: str, blocks: Blocks) -> bool:
    """Whether `key` is the name of a block's entry."""
    where, _, leaf = key.rpartition(".")
    return leaf == "name" and where in blocks and blocks[where].named


def _rename(config: dict, where: str, name: str, blocks: Blocks) -> list[str]:
    """Puts another entry at `where`.

    It keeps what was set to other than the old builder's defaults and the new builder
    takes as well. (A default is no wish: Adam's b2 is not Lion's.)
    """
    part, block = at(config, where), blocks[where]
    if name == part["name"]:
        return []
    below = children(blocks, where)
    old = block.options(part, where)
    new = block.options({"name": name}, where)
    wishes = {
        key: part[key]
        for key in old
        if key in part and key not in below and part[key] != old[key].default
    }
    kept = {key: value for key, value in wishes.items() if key in new}
    dropped = [key for key in wishes if key not in new]
    inner = {key: part[key] for key in below}
    part.clear()
    part |= filled({"name": name, **kept}, block, where) | inner
    told = [f"keeps {', '.join(kept)}"] if kept else []
    told += [f"drops {', '.join(dropped)}"] if dropped else []
    return [f"{where}.name={name} {' and '.join(told)}."] if told else []


def _set(config: dict, key: str, text: str, blocks: Blocks) -> None:
    """Reads `text` into its place."""
    where, _, leaf = key.rpartition(".")
    if key and key in blocks:
        leaves = [k for k in at(config, key) if under(key, k) not in blocks] or ["KEY"]
        raise ValueError(
            f"{key}={shown(text)} must be a block of keys. Set one of them, "
            f"such as --config.{under(key, leaves[0])}={short(text, 40)}."
        )
    takes = blocks[where].options(at(config, where), where) if where in blocks else {}
    if leaf not in takes or under(where, leaf) in blocks:
        meant = _meant(config, key, blocks)
        raise ValueError(f"{short(key)}={shown(text)} is not known.{meant}")
    at(config, where)[leaf] = read(key, text, takes[leaf].annotation)


def _meant(config: Config, key: str, blocks: Blocks) -> str:
    """The key that `key` comes nearest to, and those beside it."""
    every = {
        under(where, leaf): leaf
        for where, block in blocks.items()
        for leaf in ("name",) * block.named
        + (*block.options(at(config, where), where),)
        if under(where, leaf) not in blocks
    }
    same_leaf = [k for k, leaf in every.items() if leaf == key.rpartition(".")[2]]
    if len(same_leaf) == 1:
        return f" Did you mean {same_leaf[0]!r}?"
    where = key.rpartition(".")[0]
    beside = [k.rpartition(".")[2] for k in every if k.rpartition(".")[0] == where]
    known = f" {where or 'The config'} takes {listed(beside)}." if beside else ""
    return nearest(key, every) + known
