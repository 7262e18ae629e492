"""study/compare/page.py: what a reader gets, and that it is what the numbers say."""

import base64
import html.parser
import itertools
import json
import math
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

from study.compare import compare
from tests.comparing import write_run, write_sweep
from tests.runs import reading

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
ORDER = [
    *("arms", "comparisons", "time_to_target", "profile", "rate_sensitivity"),
    *("compute", "scaling", "best_of", "importance", "pareto", "lost", "differences"),
    "provenance",
]


class Read(html.parser.HTMLParser):
    """Numbers by section, as kept and as shown; texts, pictures and attributes."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self.sections, self.images = {}, [], []
        self.attributes, self.texts, self.tags = [], {}, []
        self.rows = []
        self._value = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.attributes += attrs
        self.tags.append(tag)
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "tr" and self.sections:
            self.rows.append((self.sections[-1], []))
        if tag == "data":
            self._value = float(found["value"])
        if tag == "img":
            self.images.append(found)

    def handle_data(self, data):
        if self._value is not None:
            numbers = self.numbers.setdefault(self.sections[-1], [])
            numbers.append((self._value, data))
            self.rows[-1][1].append(self._value)
            self._value = None
        elif self.tags and self.tags[-1] == "td":
            self.rows[-1][1].append(data)
        tag = self.tags[-1] if self.tags else ""
        self.texts.setdefault(tag, []).append(data)


def numbers_in(tree):
    """All numbers of a part of comparison.json; texts for those that are not finite."""
    if isinstance(tree, dict):
        return set().union(*map(numbers_in, tree.values()))
    if isinstance(tree, list):
        return set().union(*map(numbers_in, tree))
    if tree in ("inf", "-inf"):
        return {float(tree)}
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        return {float(tree)}
    return set()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of three rules, two runs of which diverged: its text, parsed, and JSON."""
    folder = tmp_path_factory.mktemp("page")
    sweep = write_sweep(folder / "sweep", seeds=range(6))
    command = ["launch.py", "compare", "DIR", "--data.token=abcdefgh12345678"]
    out = folder / "new" / "report.html"
    compare([str(sweep)], str(out), baseline="adam", command=command)
    text = out.read_text(encoding="utf-8")
    return (
        out,
        text,
        Read(text),
        json.loads((out.parent / "comparison.json").read_text()),
    )


def test_every_number_of_the_page_is_that_of_the_json(made):
    _, _, page, known = made
    assert set(page.numbers) == set(ORDER) - {"scaling", "differences", "provenance"}
    for section, numbers in page.numbers.items():
        kept = numbers_in(known[section])
        missing = {v for v, _ in numbers if v == v and v not in kept}
        assert not missing, section


def test_each_row_has_the_numbers_of_its_arm(made):
    _, _, page, known = made
    arms = {one["name"]: one for one in known["arms"]}
    rows = [row for section, row in page.rows if section == "arms" and row]
    assert len(rows) == 2 * len(arms)
    for row in rows[:3]:
        one = arms[row[0].strip()]
        assert row[-4:] == [one["median"], one["mean"], *one["interval"]]
        assert one["mean"] == pytest.approx(sum(one["scores"].values()) / 6)
    judged = {one["candidate"]: one for one in known["comparisons"]}
    rows = [row for section, row in page.rows if section == "comparisons" and row]
    for row in rows[:2]:
        one = judged[row[0].strip()]
        numbers = [value for value in row if isinstance(value, float)]
        interval, tests = one["interval"], [one["n"], one["p_alone"], one["p"]]
        assert numbers == [one["effect"], *interval, *tests]
        assert one["kind"] in row
        means = arms["adam"]["mean"] - arms[one["candidate"]]["mean"]
        assert one["effect"] == pytest.approx(means)


def test_what_is_shown_is_what_is_kept_to_the_digits_shown(made):
    checked = 0
    for value, text in itertools.chain.from_iterable(made[2].numbers.values()):
        plain = text.replace("\N{MINUS SIGN}", "-").replace(",", "")
        if re.fullmatch(r"[+-]?\d+\.\d+", plain):
            half = 0.5 * 10 ** -len(plain.partition(".")[2])
            assert abs(float(plain) - value) <= half * (1 + 1e-9)
            checked += 1
    assert checked > 50


def test_the_title_is_the_finding_and_the_first_picture_says_it_too(made):
    _, _, page, known = made
    assert known["finding"].startswith("signum beats adam by 0.08")
    assert page.texts["title"][0] == known["finding"]
    heading = "".join(page.texts["h1"]).replace("\N{NO-BREAK SPACE}", " ")
    assert heading.startswith(known["finding"])
    assert page.images[0]["alt"].startswith(known["finding"])


def test_the_sections_stand_in_the_order_in_which_they_are_asked_for(made):
    assert made[2].sections == ORDER


def test_the_page_needs_nothing_from_outside_and_every_picture_says_what_it_shows(made):
    _, text, page, _ = made
    assert {"script", "link", "iframe", "object", "style"} & set(page.tags) == {"style"}
    outside = [v for k, v in page.attributes if k in ("src", "href", "srcset")]
    assert all(value.startswith("data:image/svg+xml;base64,") for value in outside)
    assert len(page.images) >= 6
    for image in page.images:
        svg = base64.b64decode(image["src"].partition(",")[2]).decode()
        links = set(re.findall(r'(?:href|src)="([^"#][^"]*)"', svg))
        assert not links
        assert len(image["alt"]) > 20
    assert "url(" not in text
    assert "@media print" in text


def test_the_page_says_that_tuning_and_comparing_shared_their_seeds(made):
    notes = " ".join(made[2].texts["p"])
    assert "chosen and then compared on the same seeds" in notes
    assert "there were 5 for signum, 5 for adam and 5 for lion" in notes


def test_runs_that_diverged_are_listed_with_their_reason(made):
    lost = made[3]["lost"]["diverged"]
    assert [(one["arm"], one["seed"]) for one in lost] == [("lion", 1), ("lion", 3)]
    assert {one["setting"]["optim.schedule.peak"] for one in lost} == {0.1}
    assert "the loss is NaN at step 120" in made[1]


def test_a_secret_of_the_command_is_hidden(made):
    assert "--data.token=[hidden]" in made[1]
    for path in made[0].parent.iterdir():
        assert b"abcdefgh12345678" not in path.read_bytes()


def test_the_axes_of_the_sweep_are_weighed(made):
    shares = made[3]["importance"][0]["shares"]
    assert set(shares) == {"optim.rule.name", "optim.schedule.peak"}
    assert sum(shares.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Two arms with names that are markup, one setting and one run of each."""
    folder = tmp_path_factory.mktemp("odd")
    names = ["<b>a&'$x_1$", "b" * 90]
    for name, loss in zip(names, (2.3, math.nan), strict=True):
        lost = "the loss is <NaN>" if loss != loss else ""
        write_run(folder / name / "0", reading(), seed=0, loss=loss, diverged=lost)
    out = folder / "report.html"
    told = compare([str(folder / name) for name in names], str(out))
    return told, out.read_text(encoding="utf-8")


def test_names_are_never_markup_and_dollars_are_no_formula(odd):
    told, text = odd
    assert "<b>" not in text
    assert "&lt;b&gt;a&amp;&#x27;$x_1$" in text
    assert "the loss is &lt;NaN&gt;" in text
    assert told.record["lost"]["diverged"][0]["reason"] == "the loss is <NaN>"


def test_what_has_no_data_is_left_out_with_the_reason(odd):
    told, text = odd
    absent = told.record["absent"]
    assert set(absent) >= {"best_of", "rate_sensitivity", "importance", "pareto"}
    for reason in absent.values():
        assert reason in text.replace("&nbsp;", " ")
    assert told.finding.startswith("No winner can be named: 1 pairs of seeds cannot")


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(made, tmp_path):
    out, text, _, known = made
    command = ["launch.py", "compare", "DIR", "--data.token=abcdefgh12345678"]
    sweep, again = out.parent.parent / "sweep", tmp_path / "report.html"
    compare([str(sweep)], str(again), baseline="adam", command=command)
    assert again.read_text(encoding="utf-8") == text
    assert json.loads((tmp_path / "comparison.json").read_text()) == known


def shown_by_chromium(page: pathlib.Path, *flags: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"]
    home = f"--user-data-dir={page.parent / 'chromium'}"
    done = subprocess.run(
        [*command, home, "--window-size=1000,1400", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("which", ["made", "odd"])
def test_a_browser_shows_the_page_without_scrolling_sideways(which, request, tmp_path):
    told = request.getfixturevalue(which)
    text = told[1]
    # The page itself has no script; a copy of it gets one that measures.
    probe = (
        "<script>document.title = JSON.stringify({"
        "scroll: document.documentElement.scrollWidth, width: innerWidth,"
        "heading: document.querySelector('h1').innerText,"
        "height: document.querySelector('h1').offsetHeight,"
        "images: [...document.images].map(i => i.naturalWidth)})</script>"
    )
    free = re.sub(r"<meta http-equiv=.*?>", "", text, flags=re.DOTALL)
    assert free != text
    page = tmp_path / "probe.html"
    page.write_text(free.replace("</body>", probe + "</body>"), encoding="utf-8")
    dom = shown_by_chromium(page, "--virtual-time-budget=5000", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    seen = json.loads(html.unescape(title[1]))
    assert seen["width"] == 1000
    assert seen["scroll"] <= seen["width"]
    assert seen["height"] > 20
    assert len(seen["heading"]) > 20
    assert all(width > 100 for width in seen["images"])

    page.write_text(text, encoding="utf-8")
    shot = tmp_path / "shot.png"
    shown_by_chromium(page, f"--screenshot={shot}", "--hide-scrollbars")
    assert struct.unpack(">II", shot.read_bytes()[16:24]) == (1000, 1400)
