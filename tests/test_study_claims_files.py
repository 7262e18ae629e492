"""experiments/claims/: each file is whole, and is judged and published."""

import json
import math
import pathlib
import re

import numpy as np
import pytest

from launch import ROOT
from study.claims import drawn, fixed, published
from study.claims.claim import TIERS, chosen, names, read
from study.claims.criteria import CRITERIA
from study.claims.judged import Judged, Line, Part, Plot, plain
from study.claims.running import run
from study.intervals import interval
from study.point import Point, configure
from study.search.grid import grid
from study.sweep import configured
from train.logs import plain as json_plain
from train.schema import SCHEMA

NAMES = names(ROOT)
SWEEPS = (
    "warmup",
    "qk_norm",
    "mup",
    "muon",
    "regularized",
    "schedule_free",
    "halving",
    "wsd",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_is_whole(name):
    claim = read(ROOT, name, {})
    assert claim.statement.tier in TIERS
    assert claim.statement.finding.endswith(".")
    text = (ROOT / claim.path).read_text()
    assert f"python launch.py claims {name} " in text.partition('"""')[2]
    assert "\nResult: " in text
    for test in claim.criterion.get("tests", ()):
        file, _, function = test.partition("::")
        assert f"def {function}" in (ROOT / file).read_text()


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("options", ["", ":tiny"])
def test_every_setting_of_a_sweep_is_a_config(name, options):
    claim = read(ROOT, name + options, {})
    if claim.search.name != "grid":
        return
    first, *others = {p.setting: p for p in grid(claim.space)}.values()
    configured(claim.config, first)
    for point in others:
        configure(claim.config, point, SCHEMA)


def test_the_sweeps_have_five_seeds_and_words_that_the_criteria_name():
    for name in SWEEPS:
        claim = read(ROOT, name, {})
        if name not in ("halving", "mup"):  # no test of seeds is made of these
            assert len(claim.space.seeds) >= 5
        places = {axis.place: axis.domain for axis in claim.space.axes}
        criterion = claim.criterion
        if "of" in criterion:
            words = places[criterion["of"]].words
            keys = "large small baseline stays moves strengths trunk"
            for key in keys.split():
                assert criterion.get(key, next(iter(words))) in words
            for key in ("candidates", "beside", "separate"):
                assert set(criterion.get(key, ())) <= set(words)
        if "along" in criterion:
            assert any(axis.key == criterion["along"] for axis in claim.space.axes)


def test_every_branch_of_a_claim_is_a_config():
    for name in SWEEPS:
        claim = read(ROOT, name, {})
        if claim.forks is None:
            continue
        of, word, forks = claim.forks
        points = grid(claim.space)
        trunks = [p for p in points if claim.space.retrace(p.overrides)[of] == word]
        assert trunks
        for fork in forks:
            keys = {key: fork[key] for key in fork if key != "step"}
            own = configured(claim.config, Point(trunks[0].overrides | keys, 0))
            trunk = configured(claim.config, trunks[0])
            assert 0 < fork["step"] < min(own["num_steps"], trunk["num_steps"])
            assert fork["step"] % trunk["checkpoint"]["every_steps"] == 0


def test_every_criterion_has_a_claim_and_claims_come_by_their_rows():
    every = [c for tier in TIERS for c in chosen(ROOT, [], tier, {})]
    assert {claim.criterion["name"] for claim in every} == set(CRITERIA)
    rows = [claim.statement.row for claim in chosen(ROOT, [], "cpu", {})]
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    ("wanted", "tier", "match"),
    [
        (["warmpu"], "cpu", r"^'warmpu' is no claim\. Did you mean 'warmup'\?"),
        ([], "gup", r"^--tier='gup' is not known\. Did you mean 'gpu'\?"),
        (["decay", "decay"], "cpu", "^'decay' is named twice"),
        (["decay:tiny"], "cpu", "^decay trains nothing, so it takes no 'tiny'"),
        (["warmup:tny"], "cpu", r"No option 'tny'\. This config has \['tiny'\]"),
    ],
)
def test_what_is_no_claim_is_refused_in_one_line(wanted, tier, match):
    with pytest.raises(ValueError, match=match) as refused:
        chosen(ROOT, wanted, tier, {})
    assert "\n" not in str(refused.value)


def test_a_wrong_number_of_a_claim_is_refused_by_its_key(tmp_path):
    folder = tmp_path / "experiments" / "claims"
    folder.mkdir(parents=True)
    text = (ROOT / "experiments/claims/sparse_t5.py").read_text()
    (folder / "law.py").write_text(text.replace("4.881e-6", "-4.881e-6"))
    match = r"^experiments/claims/law.py: claim\(\): criterion.max_objective=-4.881e-06"
    with pytest.raises(ValueError, match=match):
        read(tmp_path, "law", {})
    (folder / "law.py").write_text(text.replace('name="sparse_law"', 'name="sparse"'))
    with pytest.raises(ValueError, match=r"criterion.name='sparse' is not known"):
        read(tmp_path, "law", {})


def test_public_data_are_judged_drawn_and_published(tmp_path):
    page = tmp_path / "docs" / "results" / "claims.md"
    options = dict(root=ROOT, workdir=str(tmp_path / "work"), out=str(page))
    (judged,) = run(["algoperf"], **options, command=["launch.py", "claims", "x|y"])
    assert judged.kind == "PASS"
    assert judged.claim == "algoperf"
    assert judged.sentence.startswith("19 of 19 scores are equal to 4 decimals")
    text = page.read_text()
    assert "| [AlgoPerf's published scores follow" in text
    assert "x|y" in text
    picture = page.parent / "claims" / "algoperf.png"
    assert f"](claims/{picture.name})" in text
    assert 1_000 < picture.stat().st_size < 60_000
    record = json.loads((tmp_path / "work" / "algoperf" / "judged.json").read_text())
    assert record["kind"] == "PASS"
    assert str(tmp_path) not in text

    # What was judged before stays on the page.
    later = tmp_path / "work" / "later"
    later.mkdir()
    (later / "judged.json").write_text(json.dumps(record | {"name": "later", "row": 9}))
    run(["algoperf"], **options)
    assert re.findall("^## (.*)", page.read_text(), re.M) == ["algoperf", "later"]


def test_a_score_that_is_not_the_published_one_fails():
    claim = read(ROOT, "algoperf", {})
    numbers = {
        **claim.criterion,
        "published": (0.7785, *claim.criterion["published"][1:]),
    }
    del numbers["name"]
    judged = CRITERIA["algoperf"].build(ROOT, **numbers)
    assert judged.kind == "FAIL"
    assert "18 of 19" in judged.sentence


def test_a_failed_claim_and_one_that_diverged_are_drawn_and_stand_on_the_page(tmp_path):
    lines = [
        Line("a <b>", [1e-3, 1e-2], [[2.0, 2.1], [math.inf, math.nan]]),
        *(Line(f"line {n}", [1e-3, 1e-2], [[2.0 + n], [3.0 + n]]) for n in range(7)),
    ]
    parts = [
        Part("less | than <i>", "FAIL", "it is not", interval([0.1, 0.2]), 0.5, 2),
        plain("beside", True, "told alone", told=True),
    ]
    judged = Judged(parts, Plot("rate", "loss", lines, x_scale="log", level=4.0))
    drawn.draw(judged, "Long. " * 30, tmp_path / "a" / "b.png")
    assert (tmp_path / "a" / "b.png").stat().st_size < 60_000
    claim = read(ROOT, "warmup", {})
    facts = dict(seconds=61.0, judged="2026", commit=None, dirty=None, command=[])
    facts |= dict(versions={"jax": "1"}, cores=2, device_kind="cpu")
    text = published.markdown([published.record(claim, judged) | facts], "claims")
    assert "| **FAIL** | 0.15 [" in text
    assert "* FAIL: less \\| than &lt;i>. it is not." in text
    assert "* told: beside. told alone." in text


@pytest.mark.slow
def test_oracle_tests_that_fail_or_are_none_fail_the_claim(tmp_path):
    (tmp_path / "test_a.py").write_text("def test_a():\n    assert True\n")
    (tmp_path / "test_b.py").write_text("def test_b():\n    assert False\n")
    (tmp_path / "test_c.py").write_text("")
    skipped = "\ndef test_d():\n    pytest.skip('no device')\n"
    (tmp_path / "test_d.py").write_text(
        f"import pytest\n{skipped}\ndef test_e():\n    pass\n"
    )
    oracles = CRITERIA["oracles"].build
    found = {
        name: oracles(pathlib.Path(tmp_path), tests=(f"test_{name}.py",)).kind
        for name in "abcd"
    }
    assert found == {"a": "PASS", "b": "FAIL", "c": "FAIL", "d": "FAIL"}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder with a text that is worth learning."""
    folder = tmp_path_factory.mktemp("text")
    words = ["To be", "or not", "to be,", "that is", "the question:\n"]
    bits = np.random.PCG64(0).random_raw(20_000)
    spoken = " ".join(words[n % 5] for n in bits.tolist())
    (folder / "tinyshakespeare.txt").write_text(spoken)
    return {"data.folder": str(folder)}


@pytest.mark.slow
def test_a_claim_is_run_once_and_judged_again_from_its_runs(text, tmp_path):
    page = tmp_path / "claims.md"
    places = dict(root=ROOT, workdir=str(tmp_path / "work"), out=str(page))
    (first,) = run(["warmup:tiny"], **places, overrides=text)
    trials = sorted((tmp_path / "work").glob("warmup-tiny/trials/*/summary.json"))
    before = {path: path.stat().st_mtime_ns for path in trials}
    assert len(trials) == 20
    (again,) = run(["warmup:tiny"], **places, overrides=text)
    assert repr(again) == repr(first)  # a p that is NaN is not equal to itself
    assert {path: path.stat().st_mtime_ns for path in trials} == before
    assert first.effect.method == "t"
    assert [len(line.x) for line in first.plot.lines] == [2, 2]
    assert "## warmup:tiny" in page.read_text()


def test_tests_that_take_too_long_tell_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fixed, "SUBPROCESS_SECONDS", 0.01)
    judged = fixed.oracles(tmp_path, tests=("test_a.py",))
    assert judged.kind == "INVALID"
    assert judged.sentence == "the tests took more than 0.01 seconds"


@pytest.mark.parametrize("odd", [math.nan, None])
def test_a_step_that_was_lost_on_a_device_is_no_equal_curve(odd, tmp_path, monkeypatch):
    monkeypatch.setattr("study.claims.fixed._train", lambda *args: None)
    for number, last in ((1, 2.0), (2, odd)):
        folder = tmp_path / f"devices_{number}"
        folder.mkdir()
        curve = {1: 3.0, 2: 2.5, 3: last}
        lines = [{"step": n, "loss": x} for n, x in curve.items() if x is not None]
        told = "".join(json.dumps(json_plain(line)) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(told)
    numbers = dict(config="", num_devices=(1, 2), max_relative=1e-5)
    judged = CRITERIA["same_curve"].build(ROOT, tmp_path, {}, **numbers)
    assert judged.kind == "FAIL"
    assert "up to inf on 2" in judged.sentence


@pytest.mark.slow
def test_the_losses_of_several_devices_are_compared(text, tmp_path):
    claim = read(ROOT, "sharding", {})
    numbers = {key: x for key, x in claim.criterion.items() if key != "name"}
    numbers |= dict(num_devices=(1, 2), config="experiments/claims/sharding.py:tiny")
    same_curve = CRITERIA["same_curve"].build
    judged = same_curve(ROOT, tmp_path, text, **numbers)
    assert judged.kind == "PASS"
    assert "over 20 steps" in judged.sentence
    other = same_curve(ROOT, tmp_path, text, **numbers | dict(max_relative=0.0))
    assert other.kind == "FAIL"
    with pytest.raises(ValueError, match=r"optim\.decay=0\.3"):
        same_curve(ROOT, tmp_path, text | {"optim.decay": "0.3"}, **numbers)
