"""Tests data/cldr: exact, unambiguous, fair between splits, for any locale."""

import datetime
import random
from collections import defaultdict
from decimal import Decimal

import pytest
from babel import Locale

import data
from data.cldr import dates, names, numbers
from data.cldr.forms import Form, Pair, Topic, distinct
from data.cldr.lesson import DEFAULT, TOPICS, cldr, share_out

PAIRS = [("en", "de"), ("de", "ja"), ("en", "ar"), ("pt", "hi"), ("zh_Hant", "fa")]


def small(**options):
    sizes = dict(num_pairs=2_000, num_validation=60, num_test=80)
    return cldr(**dict(seed=3) | sizes | options)


@pytest.fixture(scope="module")
def lesson():
    return small()


def drawn(topic, source, target, tries=400):
    """What a topic draws for a locale pair, by source."""
    built = TOPICS[topic](Locale.parse(source), Locale.parse(target))
    rng = random.Random(topic)
    return [pair for _ in range(tries) if built.forms and (pair := built.draw(rng))]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_no_source_text_has_two_targets(source, target):
    targets = defaultdict(set)
    for topic in DEFAULT:
        for pair in drawn(topic, source, target):
            targets[pair.source].add(pair.target)
    assert len(targets) > 1_000
    assert {text: t for text, t in targets.items() if len(t) > 1} == {}


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_topic_of_a_well_kept_locale_has_examples(source, target):
    found = {topic: len(drawn(topic, source, target, 40)) for topic in DEFAULT}
    assert min(found.values()) >= 10, found


def test_the_splits_share_no_source_and_have_the_sizes_asked_for(lesson):
    texts = {s: [r["source"] for r in lesson.records(s)] for s in lesson.splits}
    sizes = {split: len(text) for split, text in texts.items()}
    assert sizes == {"train": 2_000, "validation": 60, "test": 80}
    assert len(set().union(*texts.values())) == sum(sizes.values())


def test_every_atom_that_is_asked_is_taught(lesson):
    pairs = lesson._pairs
    taught = {atom for pair in pairs["train"] for atom in pair.atoms}
    asked = {a for s in ("validation", "test") for p in pairs[s] for a in p.atoms}
    assert len(asked) > 100
    assert asked <= taught


def test_the_held_out_pairs_are_of_all_topics(lesson):
    kinds = {pair.atoms[0].split(":")[0] for pair in lesson._pairs["test"]}
    assert {"date", "time", "number", "territory", "locale", "relative"} <= kinds


def test_a_lesson_is_set_by_its_seed(lesson):
    first = list(lesson.records("train"))
    assert list(small().records("train")) == first
    assert list(small(seed=4).records("train")) != first
    assert small().digest() == lesson.digest() != small(seed=4).digest()


def test_the_digest_tells_locales_sizes_and_topics_apart(lesson):
    others = [
        small(to_locale="fr"),
        small(num_pairs=2_001),
        small(topics=("dates", "times")),
    ]
    assert len({lesson.digest(), *(other.digest() for other in others)}) == 4


def test_known_texts_are_those_of_cldr():
    en, de = Locale("en"), Locale("de")
    form = {form.name: form for form in dates.dates(en, de).forms}
    day = datetime.date(2024, 9, 18)
    assert form["date:full"].source(day) == "Wednesday, September 18, 2024"
    assert form["date:full"].target(day) == "Mittwoch, 18. September 2024"
    (clock, _) = dates.times(en, de).forms
    assert clock.source(datetime.time(0, 5)) == "12:05\u202fAM"
    assert clock.target(datetime.time(0, 5)) == "00:05"
    form = {form.name: form for form in numbers.currencies(en, de).forms}
    assert form["currency:JPY:standard"].target(Decimal("1234.5")) == "1.234\xa0¥"
    assert form["currency:USD:name"].target(Decimal("1234.5")) == "1.234,50 US-Dollar"
    form = {form.name: form for form in numbers.relative(en, de).forms}
    assert form["relative:day:-1"].source(3) == "3 days ago"
    assert form["relative:day:-1"].target(3) == "vor 3 Tagen"
    (form,) = numbers.percents(en, de).forms
    assert form.target(Decimal("12.5")) == "12,5\xa0%"


def test_a_locale_without_a_long_style_writes_the_short_one_and_never_the_code():
    ja = Locale("ja")
    for topic in (numbers.units, numbers.durations):
        built, rng = topic(ja, ja), random.Random(0)
        texts = [pair.target for _ in range(200) if (pair := built.draw(rng))]
        assert len(texts) > 90
        assert not [text for text in texts if "length-" in text or "duration" in text]


def test_a_list_style_that_repeats_an_item_is_not_used():
    ar = Locale("ar")
    for _ in range(3):
        pair = numbers.durations(ar, ar).draw(random.Random(1))
        assert pair.source.count("،") <= 1
    assert names.list_style("standard", (2, 3, 4), ar) == "standard"
    assert names.list_style("unit", (2, 3), Locale("de")) == "standard"  # has only 2


def test_the_second_of_two_units_is_less_than_a_whole_first():
    topic = numbers.durations(Locale("en"), Locale("de"))
    rng = random.Random(0)
    for _ in range(300):
        form, value = rng.choice(topic.forms), topic.sample(rng)
        assert 1 <= form.sense(value)[1] < numbers.WITHIN[form.group.split("+")[1]]


def test_numbers_are_short():
    rng = random.Random(0)
    values = [numbers._number(rng, 7, 3) for _ in range(2_000)]
    assert max(values) < 10**7
    assert all(-3 <= value.as_tuple().exponent <= 0 for value in values)
    assert sum(value < 100 for value in values) > 200


def test_a_form_that_reads_like_another_sense_is_left_out():
    def form(name, group, text):
        return Form(name, group, lambda value: value, text, str)

    metre = form("metre", "metre", lambda value: f"{value} m")
    minute = form("minute", "minute", lambda value: f"{value} m")
    second = form("second", "second", lambda value: f"{value} s")
    vague = form("vague", "vague", lambda value: "some")
    kept = distinct([metre, minute, second, vague], [1, 2])
    assert [form.name for form in kept] == ["metre", "second"]


def test_a_value_that_two_forms_write_alike_is_an_example_of_the_first():
    def form(name, text, other):
        return Form(name, "date", lambda value: value, text, lambda value: other)

    long = form("long", lambda value: "May" if value == 5 else "June", "long")
    short = form("short", lambda value: "May" if value == 5 else "Jun.", "short")
    topic = Topic([long, short], lambda rng: rng.choice((5, 6)), lambda *_: ())
    found = {topic.draw(random.Random(n)) for n in range(50)} - {None}
    assert {(pair.source, pair.target) for pair in found} == {
        ("May", "long"),
        ("June", "long"),
        ("Jun.", "short"),
    }


def test_an_hour_of_twelve_without_its_half_of_the_day_is_no_partner():
    en = Locale("en").time_formats["short"]
    assert dates.fields(en) == {"H", "m"}
    assert dates.fields(type(en)("h:mm", None)) == {"h", "m"}
    assert "yy" in dates.fields(type(en)("d.M.yy", None))


def test_a_pair_with_the_last_of_an_atom_stays_in_training():
    pool = [Pair("a", "a", ("x",)), Pair("b", "b", ("x",)), Pair("c", "c", ("y",))]
    splits = share_out(pool, dict(train=2, validation=1, test=0))
    assert [pair.source for pair in splits["validation"]] == ["a"]
    assert [pair.source for pair in splits["train"]] == ["b", "c"]
    with pytest.raises(ValueError, match="num_pairs=1 is too few to teach"):
        share_out(pool, dict(train=1, validation=1, test=1))


def test_numbers_can_be_spelled_out():
    pairs = drawn("words", "en", "de", 50)
    assert "two" in " ".join(pair.source for pair in pairs)
    assert "zwei" in " ".join(pair.target for pair in pairs)
    assert drawn("words", "en", "ii") == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(to_locale="pt_BRR"), r"data\.to_locale='pt_BRR' is no .* mean 'pt_BR'"),
        (dict(from_locale="@"), r"data\.from_locale='@' is no locale.*look like 'de'"),
        (dict(topics=("date",)), r"data\.topics has 'date'.* Did you mean 'dates'"),
        (dict(topics=()), r"data\.topics is empty"),
    ],
)
def test_what_is_wrong_with_a_lesson_is_one_line(options, match):
    with pytest.raises(ValueError, match=match) as error:
        small(**options)
    assert "\n" not in str(error.value)


def test_more_pairs_than_there_are_is_an_error():
    lesson = small(num_pairs=100_000, topics=("locales",))
    with pytest.raises(
        ValueError, match=r"make 100140, and these topics .* about 6\d{3}"
    ):
        next(lesson.records("train"))


def test_a_locale_may_be_written_with_a_hyphen():
    assert small(to_locale="pt-PT").digest() == small(to_locale="pt_PT").digest()


def test_a_lesson_without_a_test_split_has_none():
    assert small(num_test=0).splits == ("train", "validation")
    config = dict(name="cldr", num_pairs=300, num_test=0, num_validation=5)
    blocks = dict(data=config, tokenizer={}, packing=dict(name="pairs"))
    assert data.validate(blocks) == {"train": 300, "validation": 5}


def test_a_name_that_two_codes_share_or_that_looks_like_a_list_is_left_out():
    ours = {"A": "Congo", "B": "Congo", "C": "Trinidad, Tobago", "D": "Peru", "E": "Oz"}
    theirs = {"A": "Kongo", "B": "Zaire", "C": "Trinidad", "D": "Peru"}
    kept = names._names("A B C D E", ours, theirs)
    assert kept == {"A": ("Congo", "Kongo"), "D": ("Peru", "Peru")}
