"""Dates and times of day, alone and together. Years have four digits everywhere."""

import datetime
import random

from babel import Locale
from babel.dates import DateTimePattern, tokenize_pattern

from data.cldr.forms import Form, Topic, distinct

DATES = ("full", "long", "medium", "yMMMEd", "yMMMM", "MMMMd", "yMd")
TIMES = ("short", "medium")
FIRST, DAYS = datetime.date(1950, 1, 1), 36_524  # 1950 to 2049

# What a letter of a CLDR pattern tells: years, months, days, weekdays, hours, ...
TELLS = dict(L="M", c="E", e="E", k="H", K="h", b="a", B="a")


def fields(pattern: DateTimePattern) -> frozenset[str]:
    """What a text in this pattern tells of a moment.

    An hour of twelve and its half of the day tell what an hour of twenty-four does.

    >>> en, de = Locale("en").time_formats["short"], Locale("de").time_formats["short"]
    >>> fields(en) == fields(de)
    True
    """
    told = set()
    for kind, token in tokenize_pattern(pattern.pattern):
        if kind == "field":
            letter, count = token
            told.add("yy" if (letter, count) == ("y", 2) else TELLS.get(letter, letter))
    if {"h", "a"} <= told:
        told = told - {"h", "a"} | {"H"}
    return frozenset(told - {"G"})  # all years are of one era


def _patterns(
    locale: Locale, names: tuple[str, ...], plain
) -> dict[str, DateTimePattern]:
    """Those of the named formats and skeletons that the locale has."""
    both = {name: plain[name] for name in plain} | dict(locale.datetime_skeletons)
    return {name: both[name] for name in names if name in both}


def _sense(told: frozenset[str]):
    """What is known of a moment from these fields (a weekday follows from its date)."""
    parts = dict(y="year", M="month", d="day", H="hour", m="minute", s="second")
    names = [parts[letter] for letter in sorted(told - {"E"})]
    return lambda moment: tuple((name, getattr(moment, name)) for name in names)


def _forms(kind: str, pairs, source: Locale, target: Locale) -> list[Form]:
    """The forms whose two patterns tell the same, and nothing unknown to `_sense`."""
    return [
        Form(
            f"{kind}:{name}",
            kind,
            _sense(fields(ours)),
            lambda moment, p=ours: p.apply(moment, source),
            lambda moment, p=theirs: p.apply(moment, target),
        )
        for name, ours, theirs in pairs
        if fields(ours) == fields(theirs) <= set("yMdEHms")
    ]


def _shared(source: Locale, target: Locale, names: tuple[str, ...], table: str):
    """(name, pattern in one, pattern in the other) of the formats that both have."""
    ours = _patterns(source, names, getattr(source, table))
    theirs = _patterns(target, names, getattr(target, table))
    return [(n, ours[n], theirs[n]) for n in names if n in ours and n in theirs]


def _day(rng: random.Random) -> datetime.date:
    return FIRST + datetime.timedelta(rng.randrange(DAYS))


def _time(rng: random.Random) -> datetime.time:
    return datetime.time(rng.randrange(24), rng.randrange(60), rng.randrange(60))


def dates(source: Locale, target: Locale) -> Topic:
    """`Wednesday, September 18, 2024`, `Sep 18, 2024`, `9/18/2024` and more."""
    forms = _forms(
        "date", _shared(source, target, DATES, "date_formats"), source, target
    )
    year = [datetime.date(2024, 1, 1) + datetime.timedelta(n) for n in range(366)]
    return Topic(
        distinct(forms, year),
        _day,
        lambda _, day: (
            f"month:{day.month}",
            f"day:{day.day}",
            f"weekday:{day.weekday()}",
        ),
    )


def times(source: Locale, target: Locale) -> Topic:
    """`3:05 PM`, `3:05:09 PM`."""
    forms = _forms(
        "time", _shared(source, target, TIMES, "time_formats"), source, target
    )
    probes = [
        datetime.time(hour, minute) for hour in range(24) for minute in (0, 5, 30)
    ]
    return Topic(distinct(forms, probes), _time, lambda _, time: (f"hour:{time.hour}",))


def datetimes(source: Locale, target: Locale) -> Topic:
    """`Sep 18, 2024, 3:05 PM`: a medium or numeric date and a short time."""
    days = dates(source, target).forms
    clock = [form for form in times(source, target).forms if form.name == "time:short"]

    def joined(locale: Locale, day: str, time: str) -> str:
        pattern = str(locale.datetime_formats["medium"]).replace("'", "")
        return pattern.replace("{0}", time).replace("{1}", day)

    forms = [
        Form(
            f"datetime:{day.name}",
            "datetime",
            lambda moment, d=day, t=time: (d.sense(moment), t.sense(moment)),
            lambda moment, d=day, t=time: joined(
                source, d.source(moment), t.source(moment.time())
            ),
            lambda moment, d=day, t=time: joined(
                target, d.target(moment), t.target(moment.time())
            ),
        )
        for day in days
        for time in clock
        if day.name in ("date:medium", "date:yMd")
    ]
    year = [datetime.datetime(2024, 1, 1, n % 24, 5) for n in range(24)]
    return Topic(
        distinct(forms, year + [m + datetime.timedelta(31) for m in year]),
        lambda rng: datetime.datetime.combine(_day(rng), _time(rng)),
        lambda _, at: (f"month:{at.month}", f"day:{at.day}", f"hour:{at.hour}"),
    )
