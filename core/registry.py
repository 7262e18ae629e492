"""Registries: what a config can name, how it is checked, how it is built.

A registry is a dict literal from a name to an `Entry`. A config block is a mapping
`dict(name="adam", b1=0.9)`; its other keys are the builder's keyword arguments, so the
signature is the only schema and holds the only defaults.
"""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from core.refusal import listed, nearest, short, shown
from core.types import Config, Number

# What a float32 holds beside 0 and inf; less is flushed to 0 by the devices.
SMALLEST, LARGEST = 1.1754944e-38, 3.4028234e38


class Range(NamedTuple):
    """Where a number may lie, in the notation of intervals, and where it does nothing.

    >>> Range("[0, 1)").holds(1.0), Range("(0, inf]").holds(math.inf)
    (False, True)
    """

    interval: str
    neutral: float | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN lies nowhere."""
        low, high = (float(end) for end in self.interval[1:-1].split(","))
        above = value >= low if self.interval[0] == "[" else value > low
        below = value <= high if self.interval[-1] == "]" else value < high
        return above and below


class Note(NamedTuple):
    """What the catalogue tells of a technique beside its signature.

    `proof` is the test that holds it against the outside; `provider` the symbol of a
    library, "" where it is written here; `cost` what it takes beside its state.
    `source` is of a word of a block, for an entry has its own.
    """

    proof: str
    provider: str = ""
    cost: str = ""
    source: str = ""


class Entry(NamedTuple):
    """One line of a registry.

    `ranges` has every number of the builder; `check(**options)` raises ValueError for
    what no single range can say (that a warmup is longer than its run, say). `note` is
    for the catalogue, and so are those of `words`, of which each is a technique.
    """

    build: Callable[..., Any]
    source: str
    ranges: Mapping[str, Range] = types.MappingProxyType({})
    check: Callable[..., None] | None = None
    note: Note = Note("")
    words: Mapping[str, Note] = types.MappingProxyType({})


class Block(NamedTuple):
    """A place in the config: a registry or one entry; `given` is not configured.

    `default` is the entry of a registry where the config names none; "" is no entry.
    """

    table: Mapping[str, Entry] | Entry
    given: Collection[str] = ()
    default: str = ""

    def name(self, config: Config) -> str:
        """Of the entry in a registry that a config means."""
        return config.get("name", self.default)

    @property
    def named(self) -> bool:
        """Whether the config says by `name` which entry it is."""
        return not isinstance(self.table, Entry)

    def entry(self, config: Config, where: str) -> Entry:
        """The entry that the config's block at `where` names."""
        if isinstance(self.table, Entry):
            return self.table
        if self.name(config) == "":
            raise ValueError(
                f"{under(where, 'name')} has no value, and it needs one. "
                f"Known: {listed(self.table)}."
            )
        return lookup(self.table, self.name(config), under(where, "name"))

    def options(self, config: Config, where: str) -> dict[str, inspect.Parameter]:
        """What may stand in the block beside `name`."""
        parameters = _signature(self.entry(config, where).build).parameters.items()
        return {k: p for k, p in parameters if k not in self.given}


@functools.cache  # a sweep reads each as often as it has trials
def _signature(build: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(build, eval_str=True)


def under(where: str, key: object) -> str:
    """The dotted path of `key` in the block at `where`."""
    return f"{where}.{key}" if where else str(key)


def lookup(table: Mapping[str, Any], name: object, where: str) -> Any:
    """`table[name]`.

    Raises:
      ValueError: no such name; says which there are and which was meant.
    """
    if not isinstance(name, str) or name not in table:
        raise ValueError(
            f"{where}={shown(name)} is not known.{nearest(name, table)} "
            f"Known: {listed(table)}."
        )
    return table[name]


def build(
    table: Mapping[str, Entry] | Entry, config: Config, where: str = "config", **given
) -> Any:
    """Calls the builder that `config` names with the config's other keys, and `given`.

    >>> build({"double": Entry(lambda *, x: 2 * x, "")}, {"name": "double", "x": 21})
    42
    """
    entry = Block(table).entry(config, where)
    named = {key: value for key, value in config.items() if key != "name"}
    if isinstance(table, Entry):
        named = dict(config.items())
    return entry.build(**named, **given)


def check(config: Config, block: Block, where: str, nested: Collection[str] = ()):
    """Holds one block of a concrete config against its builder's signature and ranges.

    `nested` are keys that have a block of their own.

    Raises:
      ValueError: one line that names the key, its value and what is allowed.
    """
    entry = block.entry(config, where)
    takes = block.options(config, where)
    check_keys(config, block, where, nested)
    for key, parameter in takes.items():
        if key in nested:
            continue
        if key not in config:
            if parameter.default is parameter.empty:
                raise ValueError(f"{under(where, key)} has no value, and it needs one.")
            continue
        check_value(
            under(where, key), config[key], parameter.annotation, entry.ranges.get(key)
        )
    if entry.check is not None:
        entry.check(
            **{k: v for k, v in config.items() if not (block.named and k == "name")}
        )


def check_keys(config: Config, block: Block, where: str, nested: Collection[str] = ()):
    """Raises ValueError for a key of the block that nobody takes."""
    known = {*block.options(config, where), *nested}
    if block.named:
        known.add("name")
    for key in config:
        if key not in known:
            raise ValueError(
                f"{short(under(where, key))}={shown(config[key])} is not known."
                f"{nearest(key, known)} Known: {listed(known)}."
            )


def check_value(key: str, value: Any, annotation: Any, within: Range | None = None):
    """Raises ValueError unless a config may put `value` where `annotation` stands."""
    if typing.get_origin(annotation) is typing.Literal:
        allowed = typing.get_args(annotation)
        if not any(type(value) is type(word) and value == word for word in allowed):
            raise ValueError(
                f"{key}={shown(value)} is not known.{nearest(value, allowed)} "
                f"Known: {listed(allowed)}."
            )
        return
    if not _fits(value, annotation):
        raise ValueError(f"{key}={shown(value)} must be {wanted(annotation)}.")
    numbers = value if isinstance(value, tuple) else (value,)
    if within is not None and not all(within.holds(number) for number in numbers):
        raise ValueError(f"{key}={shown(value)} must lie in {within.interval}.")


def kinds(annotation: Any, length: int) -> tuple[Any, ...]:
    """What the items of a tuple of that length are annotated as.

    >>> kinds(tuple[str, ...], 2), kinds(tuple[int, str], 2)
    ((<class 'str'>, <class 'str'>), (<class 'int'>, <class 'str'>))
    """
    inside = typing.get_args(annotation)
    return inside[:1] * length if inside[1:] == (...,) else inside


def wanted(annotation: Any) -> str:
    """What belongs where `annotation` stands, in words."""
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {listed(typing.get_args(annotation))}"
    if typing.get_origin(annotation) is tuple:
        inside = typing.get_args(annotation)
        plural, example = _ITEMS[inside[0]]
        count = "" if inside[1:] == (...,) else f"{len(inside)} "
        return f"a tuple of {count}{plural}, such as {example}"
    return _WORDS[annotation]


_WORDS = {
    Number: "a float such as 1.0 that a float32 can hold",
    float: "a float such as 1.0",
    int: "an integer such as 1",
    bool: "true or false",
    str: "a text",
}
_ITEMS = {
    Number: ("floats", "(0.0, 1.0)"),
    float: ("floats", "(0.0, 1.0)"),
    int: ("integers", "(1, 2)"),
    bool: ("truths", "(true, false)"),
    str: ("texts", "('a', 'b')"),
}


def _fits(value: object, annotation: Any) -> bool:
    """Whether `value` is of the type, exactly: no bool is an int, no int a float."""
    if annotation == Number:
        if type(value) is not float:
            return False
        return value == 0 or math.isinf(value) or SMALLEST <= abs(value) <= LARGEST
    if typing.get_origin(annotation) is tuple:
        if not isinstance(value, tuple):
            return False
        expected = kinds(annotation, len(value))
        return len(value) == len(expected) and all(map(_fits, value, expected))
    if annotation is float:
        return type(value) is float and not math.isnan(value)
    return type(value) is annotation
