"""The words of a space: from the dict that an experiment states to its axes."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from core.refusal import listed, nearest, short, shown
from study.point import text_of
from study.space import Axis, Branch, Options, Span, Values

KINDS = ("log", "linear", "choice", "blocks")


def branch(stated: Mapping[Any, Any], under: str = "") -> Branch:
    """The axes stated, under the words of choices that `under` names.

    Raises:
      ValueError: one line that names the key, its value and what is allowed.
    """
    fixed, axes = {}, []
    for key, what in stated.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"sweep(): {shown(key)} must be a key of the config.")
        if key == "seed":
            raise ValueError(f"sweep(): seed={shown(what)} is no axis; say seeds=5.")
        if not isinstance(what, Mapping | list):
            fixed[key] = _plain(key, what)
            continue
        place = f"{under}{key}"
        domain = _domain(key, what, place)
        axes.append(Axis(key, place, domain))
    return Branch(fixed, tuple(axes))


def refuse_unknown(where: str, stated: Mapping[Any, Any], known: Collection[str]):
    """Raises ValueError for a word that is not known."""
    for word in stated:
        if word not in known:
            raise ValueError(
                f"{where}: {shown(word)} is not known.{nearest(word, known)} "
                f"Known: {listed(known)}."
            )


def _domain(key: str, what: Any, place: str) -> Values | Span | Options:
    where = f"sweep(): {short(key)}"
    if isinstance(what, list):
        return _list(key, what, place)
    refuse_unknown(where, what, (*KINDS, "points"))
    kinds = [kind for kind in KINDS if kind in what]
    if len(kinds) != 1:
        raise ValueError(
            f"{where}={shown(dict(what))} must have one of {list(KINDS)}, and has "
            f"{kinds or 'none'}."
        )
    kind = kinds[0]
    if kind in ("log", "linear"):
        return _span(where, what, kind)
    if "points" in what:
        raise ValueError(f"{where}: points={shown(what['points'])} are of a range.")
    options = what[kind]
    if kind == "choice" and isinstance(options, list):
        return _options(key, {n: {} for n in _several(where, kind, options)}, place)
    if not isinstance(options, Mapping) or not options:
        example = "['a', 'b']" if kind == "choice" else "{'a': {...}, 'b': {...}}"
        raise ValueError(
            f"{where}: {kind}={shown(options)} must name what there is, such as "
            f"{example}."
        )
    return _options(key if kind == "choice" else "", options, place)


def _list(key: str, what: list[Any], place: str) -> Values | Options:
    values = _several(f"sweep(): {short(key)}", "", what)
    if all(type(value) in (int, float) for value in values):
        return Values(tuple(values))
    return _options(key, {value: {} for value in values}, place)


def _several(where: str, word: str, values: list[Any]) -> list[Any]:
    """The list, which is not empty and has nothing twice."""
    named = f"{where}: {word}={shown(values)}" if word else f"{where}={shown(values)}"
    if not values:
        raise ValueError(f"{named} has no value; it needs one at least.")
    for value in values:
        _plain(where.removeprefix("sweep(): "), value)
        if values.count(value) > 1:
            raise ValueError(f"{named} has {shown(value)} twice.")
    return values


def _options(key: str, options: Mapping[Any, Any], place: str) -> Options:
    """The words of a choice; each sets `key`, unless that is empty."""
    words = {}
    for value, inner in options.items():
        word = text_of(_plain(key or place, value))
        if not isinstance(inner, Mapping):
            raise ValueError(
                f"sweep(): {place}={word}: {shown(inner)} must be a dict of keys; {{}} "
                "is none."
            )
        if key and key in inner:
            raise ValueError(
                f"sweep(): {short(key)} is set twice under {place}={word}."
            )
        under = branch(inner, f"{place}={word}/")
        own = {key: value} if key else {}
        words[word] = Branch(own | under.fixed, under.axes)
    return Options(words)


def _span(where: str, what: Mapping[str, Any], kind: str) -> Span:
    ends, points = what[kind], what.get("points", 0)
    named = f"{where}: {kind}={shown(ends)}"
    if (
        not isinstance(ends, tuple | list)
        or len(ends) != 2
        or any(type(end) not in (int, float) for end in ends)
        or not all(map(math.isfinite, ends))
    ):
        raise ValueError(f"{named} must be two finite numbers, such as (0.001, 0.1).")
    low, high = ends if {*map(type, ends)} == {int} else map(float, ends)
    if kind == "log" and low <= 0:
        raise ValueError(f"{named} must begin above 0; a logarithm has no 0.")
    if low >= high:
        raise ValueError(f"{named} must rise from its first number to its second.")
    if "points" in what and (type(points) is not int or points < 2):
        raise ValueError(
            f"{where}: points={shown(points)} must be an integer of 2 or more."
        )
    return Span(low, high, kind == "log", points)


def _plain(key: str, value: Any) -> Any:
    """A value that a config may have."""
    if isinstance(value, tuple):
        return tuple(_plain(key, item) for item in value)
    if type(value) not in (bool, int, float, str) or value != value:
        raise ValueError(
            f"sweep(): {short(key)}={shown(value)} is no value of a config. A list is "
            "what is tried, a dict a range or a choice, a tuple one value."
        )
    return value
