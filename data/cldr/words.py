"""Whole numbers, spelled out: few languages have them, so a lesson asks for them."""

from babel import Locale
from num2words import CONVERTER_CLASSES, num2words

from data.cldr.forms import Form, Topic

LIMIT = 10_000


def words(source: Locale, target: Locale) -> Topic:
    """`one thousand, two hundred and thirty-four`.

    Without forms where num2words does not speak one of the languages.

    Source: num2words, https://github.com/savoirfairelinux/num2words.
    """

    def spoken(locale: Locale) -> str:
        known = (
            name for name in (str(locale), locale.language) if name in CONVERTER_CLASSES
        )
        return next(known, "")

    ours, theirs = spoken(source), spoken(target)
    form = Form(
        "words",
        "words",
        lambda value: value,
        lambda value: num2words(value, lang=ours),
        lambda value: num2words(value, lang=theirs),
    )

    def sample(rng):
        return rng.randrange(10 ** rng.randint(1, len(str(LIMIT)) - 1))

    return Topic([form] if ours and theirs else [], sample, lambda *_: ())
