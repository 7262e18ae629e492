"""AlgoPerf's published scores, from its public trials."""

import gzip
import math
import pathlib
import runpy

import pytest

from study.algoperf import BASE, COLUMNS, HELD_OUT, MODES, Trial, read_trials, scores
from study.algoperf import times as times_of

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "algoperf.csv.gz"
INF = math.inf

# Of the leaderboards of version 0.5 and 0.6.
BOARDS = runpy.run_path(str(ROOT / "experiments/claims/algoperf.py"))["BOARDS"]
PUBLISHED = {tuple(name.split("/")): board for name, board in BOARDS.items()}

# What the other modes change most.
ELSEWHERE = {
    "true-time": {"lawa_ema": 0.3434},
    "exact-integral": {"lawa_ema": 0.3431, "schedule_free_adamw": 0.7062},
}


@pytest.fixture(scope="module")
def trials():
    return read_trials(GOLDEN)


@pytest.mark.parametrize("board", PUBLISHED, ids="-".join)
def test_the_official_mode_gives_the_published_scores(trials, board):
    found = scores(trials, *board)
    assert {name: round(score, 4) for name, score in found.items()} == PUBLISHED[board]
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_19_scores_are_published():
    assert sum(map(len, PUBLISHED.values())) == 19


@pytest.mark.parametrize("mode", ELSEWHERE)
def test_the_other_modes_change_what_they_say_they_change(trials, mode):
    found = scores(trials, "algoperf_v05", "external_tuning", mode)
    for name, score in ELSEWHERE[mode].items():
        assert round(found[name], 4) == score


@pytest.mark.parametrize("board", PUBLISHED, ids="-".join)
def test_all_modes_agree_on_the_order_and_nearly_on_the_scores(trials, board):
    official, *others = (scores(trials, *board, mode) for mode in MODES)
    for other in others:
        assert list(other) == list(official)
        off = {name: other[name] - score for name, score in official.items()}
        assert max(map(abs, (off | {"lawa_ema": 0}).values())) < 0.00155


@pytest.mark.parametrize("board", PUBLISHED, ids="-".join)
def test_the_fewest_seconds_are_never_more_than_those_of_the_earliest(trials, board):
    official, fewest = (times_of(trials, *board, mode) for mode in list(MODES)[:2])
    for name, row in official.items():
        assert all(fewest[name][w] <= seconds for w, seconds in row.items())


@pytest.mark.parametrize("board", PUBLISHED, ids="-".join)
def test_trapezoids_are_within_half_a_point_of_the_exact_area(trials, board):
    coarse, exact = (scores(trials, *board, mode) for mode in list(MODES)[1:])
    assert all(abs(coarse[name] - exact[name]) <= 0.5 / 99 for name in exact)


def made(version="algoperf_v06", **times):
    """Trials, from submission to workload to studies of (index, seconds)."""
    return [
        Trial(version, "self_tuning", name, workload, str(i), str(j), seconds, index)
        for name, row in times.items()
        for workload, studies in row.items()
        for i, study in enumerate(studies)
        for j, (index, seconds) in enumerate(study)
    ]


MISS = (-1, INF)


def test_the_earliest_evaluation_may_not_be_the_fewest_seconds():
    trials = made(a={"wmt": [[(5, 90.0), (6, 70.0), MISS, (5, 80.0)]]})
    found = {m: times_of(trials, "algoperf_v06", "self_tuning", m) for m in MODES}
    assert [found[m]["a"]["wmt"] for m in MODES] == [80, 70, 70]


def test_a_study_that_misses_counts_and_one_that_is_not_there_does_not():
    trials = made(a={"wmt": [[(1, 10.0)], [MISS], [(1, 20.0)]], "ogbg": [[(1, 3.0)]]})
    found = times_of(trials, "algoperf_v06", "self_tuning")["a"]
    assert found == dict.fromkeys(BASE, INF) | {"wmt": 20, "ogbg": 3}


def hit(seconds):
    return [[(1, seconds)]]


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        # base, variant -> base
        ((40.0, 40.0), 40),
        ((41.0, 10.0), INF),  # above 4 times the fastest
        ((10.0, 41.0), INF),  # the variant was
        ((10.0, INF), INF),
        ((INF, 10.0), INF),
    ],
)
def test_a_base_counts_only_with_its_variant(slow, expected):
    variant = HELD_OUT["algoperf_v05"]["wmt"]
    table = {
        "fast": {"wmt": hit(10.0), variant: hit(10.0)},
        "slow": {
            workload: hit(seconds) if seconds < INF else [[MISS]]
            for workload, seconds in zip(("wmt", variant), slow, strict=True)
        },
    }
    found = times_of(made("algoperf_v05", **table), "algoperf_v05", "self_tuning")
    assert (found["fast"]["wmt"], found["slow"]["wmt"]) == (10, expected)


def test_a_variant_without_its_base_is_nobodys_measure():
    variant = HELD_OUT["algoperf_v05"]["wmt"]
    table = {
        "odd": {"wmt": [[MISS]], variant: hit(1.0)},
        "slow": {"wmt": hit(10.0), variant: hit(10.0)},
    }
    found = times_of(made("algoperf_v05", **table), "algoperf_v05", "self_tuning")
    assert found["slow"]["wmt"] == 10


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        (("algoperf_v5", "self_tuning"), r"version='algoperf_v5' .* 'algoperf_v05'"),
        (("algoperf_v05", "self"), "ruleset='self' is not known"),
        (
            ("algoperf_v05", "self_tuning", "true_time"),
            r"mode='true_time' is not known\. Did you mean 'true-time'",
        ),
    ],
)
def test_what_is_not_there_is_refused(asked, match):
    with pytest.raises(ValueError, match=match):
        scores([], *asked)


LINE = "algoperf_v05,self_tuning,a,wmt,study_0,trial_1"


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (f"{LINE},fast,3", r"log\.csv:2: time_to_target_s='fast'"),
        (f"{LINE},3.5", "eval_index=None must be numbers"),
        (f"{LINE},inf,3", "inf just where eval_index=3"),
        (f"{LINE},7.0,-1", "inf just where eval_index=-1"),
        (f"{LINE},nan,3", "must be above 0"),
        (f"{LINE},0,3", "must be above 0"),
    ],
)
def test_a_line_that_is_no_trial_is_named(tmp_path, line, match):
    path = tmp_path / "log.csv"
    path.write_text(",".join(COLUMNS) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=match):
        read_trials(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"step,loss\n1,2\n"))
    with pytest.raises(ValueError, match=r"log\.csv\.gz has no column 'version'"):
        read_trials(path)
