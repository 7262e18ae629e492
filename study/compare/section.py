"""A part of the page: how to read it, tables, pictures, and the same as plain data.

A number in a table is shown with few digits and kept with all of them.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
NONE = "\N{EN DASH}"  # where there is no number
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


class Shown(NamedTuple):
    """A number and how it is written."""

    value: float
    text: str


Cell = str | Shown


class Table(NamedTuple):
    """Columns by their heads; those named in `wide` hold sentences."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    wide: Sequence[str] = ()


class Picture(NamedTuple):
    """An image, and what it shows for those who cannot see it."""

    svg: bytes
    alt: str


@dataclasses.dataclass(frozen=True)
class Section:
    """`reading` says in a sentence or two how to read it.

    `data` is what comparison.json has under `key`. `absent` is the line that stands in
    place of a section for which there are no data.
    """

    key: str
    title: str
    reading: str = ""
    data: Any = None
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    absent: str = ""


def fixed(value: float, digits: int, *, sign: bool = False) -> Shown:
    """So many digits behind the point, so that a column of them is aligned.

    >>> fixed(2.34567, 3).text, fixed(0.5, 2, sign=True).text, fixed(1e999, 1).text
    ('2.346', '+0.50', '∞')
    """
    value = float(value)
    if math.isnan(value):
        return Shown(value, NONE)
    if math.isinf(value):
        return Shown(value, "∞" if value > 0 else f"{MINUS}∞")
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return Shown(value, text.replace("-", MINUS))


def count(value: float) -> Shown:
    """A whole number, in groups of three.

    >>> count(12345).text
    '12,345'
    """
    if not math.isfinite(value):
        return fixed(value, 0)
    return Shown(value, f"{round(value):,}")


def amount(value: float) -> Shown:
    """Three digits and a prefix.

    >>> amount(19_200).text, amount(3.21e15).text, amount(0.25).text
    ('19.2 k', '3.21 P', '0.25')
    """
    value = float(value)
    if not math.isfinite(value):
        return fixed(value, 0)
    power = 0
    while abs(value) / 1000**power >= 999.5 and power < len(PREFIXES) - 1:
        power += 1
    text = f"{value / 1000**power:.3g}"
    return Shown(value, f"{text} {PREFIXES[power]}".strip())


def share(value: float) -> Shown:
    """In per cent.

    >>> share(0.625).text
    '62 %'
    """
    return Shown(float(value), f"{100 * value:.0f} %")


def p_value(value: float) -> Shown:
    """Two digits; what is less than a thousandth is that.

    >>> p_value(1 / 32).text, p_value(1e-5).text, p_value(1.0).text
    ('0.031', '< 0.001', '1')
    """
    if value != value:
        return Shown(value, NONE)
    return Shown(value, "< 0.001" if value < 0.001 else f"{value:.2g}")


def ratio(value: float) -> Shown:
    """How many times less something costs: never as good, or as good alone."""
    if value == 0:
        return Shown(value, "never")
    if value == math.inf:
        return Shown(value, "it alone")
    shown = fixed(value, 2)
    return Shown(value, shown.text + (TIMES if math.isfinite(value) else ""))


def span(low: float, high: float, digits: int) -> str:
    """An interval in words; nothing where it is the whole line."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    return f"{fixed(low, digits).text} to {fixed(high, digits).text}"
