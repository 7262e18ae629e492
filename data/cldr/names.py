"""Names of territories and languages, in lists and in each other's company."""

from collections.abc import Mapping
from typing import Any

from babel import Locale
from babel.lists import format_list

from data.cldr.forms import Form, Topic, distinct

TERRITORIES = (
    "AR AT AU BD BE BG BO BR CA CH CL CN CO CR CU CZ DE DK DZ EC EE EG ES ET FI FR GB "
    "GE GH GR HR HU ID IE IL IN IQ IR IS IT JM JO JP KE KH KR KZ LB LK LT LU LV MA MG "
    "MX MY MZ NG NL NO NP NZ PA PE PH PK PL PT PY RO RS RU SA SE SG SI SK SN TH TN TR "
    "TZ UA UG US UY UZ VE VN ZA ZM"
)
LANGUAGES = (
    "af sq am ar hy az eu be bn bs bg my ca zh hr cs da nl en et fi fr gl ka de el gu "
    "he hi hu is id ga it ja kn kk km ko lo lv lt mk ms ml mr mn ne no fa pl pt pa ro "
    "ru sr sk sl es sw sv ta te th tr uk ur uz vi cy yo zu"
)
SEPARATORS = set(",\u060c\u3001;()\uff08\uff09")


def _names(
    codes: str, ours: Mapping[str, str], theirs: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Code to its two names, where both exist and the first is nobody else's."""
    names, taken = {}, set()
    for code in codes.split():
        if code in ours and code in theirs and ours[code] not in taken:
            if SEPARATORS & set(ours[code] + theirs[code]):
                continue
            taken.add(ours[code])
            names[code] = (ours[code], theirs[code])
    return names


def list_style(style: str, sizes: tuple[int, ...], locale: Locale) -> Any:
    """The style, or `standard` where the locale's table loses or repeats an item."""
    for n in sizes:
        items = ["\x01", "\x02", "\x03", "\x04"][:n]
        try:
            text = format_list(items, style, locale=locale)  # type: ignore[arg-type]
        except KeyError:  # Babel knows the style by half
            return "standard"
        if any(text.count(item) != 1 for item in items):
            return "standard"
    return style


def _lists(kind: str, names: dict[str, tuple[str, str]], source, target) -> Topic:
    """Two to four names, joined by `and` or by `or`."""
    codes = list(names)

    def text(side: int, style: str, locale: Locale):
        whole = list_style(style, (2, 3, 4), locale)
        return lambda chosen: format_list(
            [names[code][side] for code in chosen], whole, locale=locale
        )

    forms = [
        Form(
            f"{kind}:{style}",
            kind,
            lambda chosen: (),
            text(0, style, source),
            text(1, style, target),
        )
        for style in ("standard", "or")
    ]

    def sample(rng):
        return tuple(rng.sample(codes, rng.choice((2, 2, 3, 3, 4))))

    def atoms(_, chosen):
        items = tuple(f"{kind}:{code}" for code in chosen)
        return (f"{kind}:{len(chosen)}", *items)

    return Topic(forms if len(codes) >= 4 else [], sample, atoms)


def territories(source: Locale, target: Locale) -> Topic:
    """`France, Spain, and Japan`."""
    names = _names(TERRITORIES, source.territories, target.territories)
    return _lists("territory", names, source, target)


def languages(source: Locale, target: Locale) -> Topic:
    """`French, Spanish, or Japanese`."""
    names = _names(LANGUAGES, source.languages, target.languages)
    return _lists("language", names, source, target)


def locales(source: Locale, target: Locale) -> Topic:
    """`German (Austria)`."""
    tongues = _names(LANGUAGES, source.languages, target.languages)
    places = _names(TERRITORIES, source.territories, target.territories)
    form = Form(
        "locale",
        "locale",
        lambda value: value,
        lambda value: f"{tongues[value[0]][0]} ({places[value[1]][0]})",
        lambda value: f"{tongues[value[0]][1]} ({places[value[1]][1]})",
    )
    codes = list(tongues), list(places)
    return Topic(
        distinct([form], []) if all(codes) else [],
        lambda rng: (rng.choice(codes[0]), rng.choice(codes[1])),
        lambda _, value: (f"in-locale:{value[0]}", f"in-locale:{value[1]}"),
    )
