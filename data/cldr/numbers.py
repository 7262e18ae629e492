"""Numbers, percents, amounts of money, measures, durations, relative times."""

import functools
import itertools
import random
from decimal import Decimal
from typing import Any

from babel import Locale
from babel.dates import format_timedelta
from babel.lists import format_list
from babel.numbers import (
    format_currency,
    format_decimal,
    format_percent,
    get_currency_precision,
)
from babel.units import UnknownUnitError, format_unit

from data.cldr.forms import Form, Topic, distinct
from data.cldr.names import list_style

CURRENCIES = (
    "USD EUR GBP JPY CHF CNY INR BRL RUB KRW MXN CAD AUD NZD SEK NOK DKK PLN CZK HUF "
    "TRY ILS THB ZAR SGD"
)
UNITS = (
    "length-kilometer length-meter length-centimeter length-millimeter length-mile "
    "length-foot length-inch mass-kilogram mass-gram mass-tonne mass-pound mass-ounce "
    "volume-liter volume-milliliter volume-cubic-meter area-square-meter "
    "area-square-kilometer area-hectare speed-kilometer-per-hour "
    "speed-meter-per-second temperature-celsius temperature-fahrenheit power-watt "
    "power-kilowatt energy-kilowatt-hour digital-megabyte digital-gigabyte "
    "frequency-hertz electric-volt"
)
SECONDS = dict(
    year=31_536_000, month=2_592_000, week=604_800, day=86_400,
    hour=3_600, minute=60, second=1,
)  # fmt: skip
WITHIN = dict(year=100, month=12, week=4, day=7, hour=24, minute=60, second=60)
PROBES = [Decimal(number) for number in (0, 1, 2, 3, 5, 11, 21, 100, 1000, 1.5)]


def _number(rng: random.Random, digits: int, places: int) -> Decimal:
    """Of 1 to `digits` digits before the point and 0 to `places` after it."""
    whole = rng.randrange(10 ** rng.randint(1, digits))
    after = rng.randint(0, places)
    return (whole + Decimal(rng.randrange(10**after)).scaleb(-after)).normalize() + 0


def numbers(source: Locale, target: Locale) -> Topic:
    """`-1,234,567.89`."""
    form = Form(
        "number",
        "number",
        lambda value: value,
        lambda value: format_decimal(value, locale=source),
        lambda value: format_decimal(value, locale=target),
    )

    def sample(rng):
        return _number(rng, 7, 3) * rng.choice((1, 1, 1, -1)) + 0

    return Topic([form], sample, lambda _, value: (f"sign:{value < 0}",))


def percents(source: Locale, target: Locale) -> Topic:
    """`12.5%`."""

    def text(value: Decimal, locale: Locale) -> str:
        return format_percent(value / 100, locale=locale, decimal_quantization=False)

    form = Form(
        "percent",
        "percent",
        lambda value: value,
        lambda value: text(value, source),
        lambda value: text(value, target),
    )

    def sample(rng):
        return _number(rng, 3, 2) * rng.choice((1, 1, 1, -1)) + 0

    return Topic([form], sample, lambda _, value: (f"percent-sign:{value < 0}",))


def currencies(source: Locale, target: Locale) -> Topic:
    """`$1,234.50`, `1,234.50 US dollars`."""

    def text(code: str, kind: Any, locale: Locale):
        step = Decimal(1).scaleb(-get_currency_precision(code))
        return lambda value: format_currency(
            value.quantize(step), code, locale=locale, format_type=kind
        )

    forms = [
        Form(
            f"currency:{code}:{kind}",
            code,
            lambda value, code=code: round(value, get_currency_precision(code)),
            text(code, kind, source),
            text(code, kind, target),
        )
        for kind in ("standard", "name")
        for code in CURRENCIES.split()
    ]
    return Topic(distinct(forms, PROBES), lambda rng: _number(rng, 6, 2), lambda *_: ())


def _write(unit: str, length: str, locale: Locale) -> Any:
    """Number to text in the longest style up to `length` that the locale has, or None.

    CLDR's long style is an alias of the short one where a locale makes no difference;
    Babel does not follow it, and writes the code of the unit.
    """
    for style in ("long", "short") if length == "long" else ("short",):
        write = functools.partial(
            format_unit, measurement_unit=unit, length=style, locale=locale
        )
        try:
            if not any(unit in write(value) for value in PROBES):
                return write
        except UnknownUnitError:
            return None
    return None


def units(source: Locale, target: Locale) -> Topic:
    """`12.5 kilometers`, `12.5 km`."""
    forms = []
    for length in ("long", "short"):
        for unit in UNITS.split():
            ours, theirs = _write(unit, length, source), _write(unit, length, target)
            if ours and theirs:
                form = Form(f"{unit}:{length}", unit, lambda value: value, ours, theirs)
                forms.append(form)

    def atoms(form, value):
        plural = f"{source.plural_form(value)}:{target.plural_form(value)}"
        return (f"{form.name}:{plural}",)

    return Topic(distinct(forms, PROBES), lambda rng: _number(rng, 4, 1), atoms)


def durations(source: Locale, target: Locale) -> Topic:
    """`3 hours, 15 minutes`: two neighbouring units, the second not a whole first."""
    write = {
        unit: tuple(
            _write(f"duration-{unit}", "long", side) for side in (source, target)
        )
        for unit in WITHIN
    }
    known = [unit for unit in WITHIN if all(write[unit])]

    def both(pair: tuple[str, str], value: tuple[int, int]) -> tuple[int, int]:
        return value[0], 1 + value[1] % (WITHIN[pair[1]] - 1)

    def text(pair: tuple[str, str], side: int):
        locale = (source, target)[side]
        style = list_style("unit", (2,), locale)

        def write_both(value: tuple[int, int]) -> str:
            parts = zip(both(pair, value), pair, strict=True)
            texts = [write[unit][side](number) for number, unit in parts]
            return format_list(texts, style, locale=locale)

        return write_both

    forms = [
        Form(
            f"duration:{'+'.join(pair)}",
            "+".join(pair),
            functools.partial(both, pair),
            text(pair, 0),
            text(pair, 1),
        )
        for pair in itertools.pairwise(known)
    ]

    def atoms(form, value):
        return tuple(
            f"duration:{unit}:{source.plural_form(n)}:{target.plural_form(n)}"
            for n, unit in zip(form.sense(value), form.group.split("+"), strict=True)
        )

    probes = [(a, b) for a in (1, 2, 5, 11) for b in (0, 1, 4)]
    return Topic(
        distinct(forms, probes),
        lambda rng: (rng.randint(1, 99), rng.randrange(1 << 20)),
        atoms,
    )


def relative(source: Locale, target: Locale) -> Topic:
    """`in 3 days`, `3 days ago`."""

    def text(unit: str, sign: int, locale: Locale):
        return lambda value: format_timedelta(
            sign * value * SECONDS[unit],
            granularity=unit,  # type: ignore[arg-type]
            threshold=1 << 40,
            add_direction=True,
            locale=locale,
        )

    forms = [
        Form(
            f"relative:{unit}:{sign:+d}",
            f"{unit}{sign}",
            lambda value: value,
            text(unit, sign, source),
            text(unit, sign, target),
        )
        for unit in SECONDS
        for sign in (1, -1)
    ]

    def atoms(form, value):
        plural = f"{source.plural_form(value)}:{target.plural_form(value)}"
        return (f"{form.name}:{plural}",)

    probes = [1, 2, 3, 5, 11, 21, 100]
    return Topic(distinct(forms, probes), lambda rng: rng.randint(1, 999), atoms)
