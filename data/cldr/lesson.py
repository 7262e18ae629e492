"""The lesson: pairs of all topics, drawn once and shared out to the splits."""

import functools
import pathlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import babel
from babel.localedata import locale_identifiers

from core.registry import Entry, Range, nearest
from data.cldr import dates, names, numbers, words
from data.cldr.forms import Pair, Topic
from data.source import Record, digest_of

TOPICS = {
    "dates": dates.dates,
    "times": dates.times,
    "datetimes": dates.datetimes,
    "numbers": numbers.numbers,
    "percents": numbers.percents,
    "currencies": numbers.currencies,
    "units": numbers.units,
    "durations": numbers.durations,
    "relative": numbers.relative,
    "territories": names.territories,
    "languages": names.languages,
    "locales": names.locales,
    "words": words.words,
}
DEFAULT = tuple(name for name in TOPICS if name != "words")
PATIENCE = 2_000  # draws without a new pair, after which a lesson counts as exhausted


class Lesson:
    """A source that writes its own records."""

    def __init__(
        self, locales: tuple[str, str], sizes: dict[str, int], topics, seed: int
    ):
        self.splits = tuple(name for name, size in sizes.items() if size)
        self.locales, self.sizes, self.topics, self.seed = locales, sizes, topics, seed

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split."""
        pairs = self._pairs[split]
        return ({"source": pair.source, "target": pair.target} for pair in pairs)

    def digest(self) -> str:
        """Of the options, of Babel's release and of the code that draws."""
        code = sorted(pathlib.Path(__file__).parent.glob("*.py"))
        texts = [path.read_text() for path in code]
        asked = self.locales, sorted(self.sizes.items()), self.topics, self.seed
        return digest_of("cldr", babel.__version__, asked, texts)

    @functools.cached_property
    def _pairs(self) -> dict[str, list[Pair]]:
        source, target = (babel.Locale.parse(name) for name in self.locales)
        topics = [TOPICS[name](source, target) for name in self.topics]
        rng = random.Random(f"cldr {self.seed}")
        pool = draw([t for t in topics if t.forms], sum(self.sizes.values()), rng)
        return share_out(pool, self.sizes)


def draw(topics: Sequence[Topic], num_pairs: int, rng: random.Random) -> list[Pair]:
    """So many pairs, no two of one source, topics taking turns at random.

    Raises:
      ValueError: the topics have not so many.
    """
    found: dict[str, Pair] = {}
    misses = 0
    while topics and len(found) < num_pairs and misses < PATIENCE:
        pair = rng.choice(topics).draw(rng)
        if pair is None or pair.source in found:
            misses += 1
        else:
            misses, found[pair.source] = 0, pair
    if len(found) == num_pairs:
        return list(found.values())
    raise ValueError(
        f"data.num_pairs and the held-out pairs make {num_pairs}, and these topics of "
        f"these locales have about {len(found)}: take fewer, or more topics."
    )


def share_out(pool: Sequence[Pair], sizes: dict[str, int]) -> dict[str, list[Pair]]:
    """The pool by split; a pair is held out only if training knows all its atoms.

    Raises:
      ValueError: too few pairs to train on for so many held out.
    """
    left = Counter(atom for pair in pool for atom in set(pair.atoms))
    splits: dict[str, list[Pair]] = {name: [] for name in sizes}
    for pair in pool:
        atoms = set(pair.atoms)
        held_out = all(left[atom] > 1 for atom in atoms)
        for name in ("validation", "test"):
            if held_out and len(splits[name]) < sizes[name]:
                splits[name].append(pair)
                left.subtract(atoms)
                break
        else:
            splits["train"].append(pair)
    if len(splits["train"]) != sizes["train"]:
        raise ValueError(
            f"data.num_pairs={sizes['train']} is too few to teach what "
            f"{sizes['validation'] + sizes['test']} held-out pairs ask: "
            "take more of the one, or fewer of the others."
        )
    return splits


def cldr(
    *,
    from_locale: str = "en",
    to_locale: str = "de",
    num_pairs: int = 40_000,
    num_validation: int = 500,
    num_test: int = 1_000,
    topics: tuple[str, ...] = DEFAULT,
    seed: int = 0,
) -> Lesson:
    """Localisation from one locale to another, `num_pairs` of it to train on.

    `seed` draws the lesson; the run's own draws parameters and order, so that runs of
    several seeds share data.

    Topics that the locales have no tables for are left out.
    """
    check(from_locale=from_locale, to_locale=to_locale, topics=topics)
    sizes = dict(train=num_pairs, validation=num_validation, test=num_test)
    locales = _identifier(from_locale), _identifier(to_locale)
    return Lesson(locales, sizes, tuple(topics), seed)


def _identifier(locale: str) -> str:
    return locale.replace("-", "_")


def check(*, from_locale: str = "en", to_locale: str = "de", topics=DEFAULT, **_):
    """Whether Babel knows the locales, and we the topics.

    Raises:
      ValueError: one of them is unknown.
    """
    known = locale_identifiers()
    for key, name in (("from_locale", from_locale), ("to_locale", to_locale)):
        if _identifier(name) not in known or _identifier(name) == "root":
            hint = (
                nearest(_identifier(name), known) or " Codes look like 'de' or 'pt_PT'."
            )
            raise ValueError(
                f"data.{key}={name!r} is no locale that Babel knows.{hint}"
            )
    for name in topics:
        if name not in TOPICS:
            raise ValueError(
                f"data.topics has {name!r}, which is not known.{nearest(name, TOPICS)} "
                f"Known: {sorted(TOPICS)}."
            )
    if not topics:
        raise ValueError(f"data.topics is empty. Known: {sorted(TOPICS)}.")


ENTRY = Entry(
    cldr,
    "https://cldr.unicode.org",
    {
        "num_pairs": Range("[1, 10000000]"),
        "num_validation": Range("[0, 100000]"),
        "num_test": Range("[0, 100000]"),
    },
    check,
)
