"""study/verdict.py: what passes, what fails, and what was no comparison at all."""

import math

import numpy as np
import pytest

from study.arms import Arm, faults
from study.edge import Edge
from study.power import needed_seeds
from study.significance import regroup, sign_flip
from study.verdict import Above, Within, judge


def arm(name, scores, **changed):
    """A fair arm; `scores` of the seeds 0, 1, ... unless they are named."""
    by_seed = scores if isinstance(scores, dict) else dict(enumerate(scores))
    fair = dict(
        edges=[], budget={"trials": 16, "tokens": 1e6}, read_step=400, end_step=400
    )
    return Arm(name=name, scores=by_seed, **{**fair, **changed})


ABOVE = Above()


def verdict(first, second, question=ABOVE, **options):
    options = dict(metric="val_loss", better="lower") | options
    return judge(first, [second], question, **options)[second.name]


ADAMW = [2.357, 2.349, 2.366, 2.352, 2.361]
MUON = [2.270, 2.281, 2.262, 2.288, 2.265]
BASE, BETTER = arm("adamw", ADAMW), arm("muon", MUON)


def test_a_clear_gain_passes_and_the_reason_has_its_numbers():
    found = verdict(BASE, BETTER)
    assert found.kind == "PASS"
    assert found.p == 1 / 32
    assert found.gain.mean == pytest.approx(np.mean(ADAMW) - np.mean(MUON))
    assert found.needed_seeds is None
    assert found.reason == (
        "muon is better than adamw in val_loss: gain 0.0838 [0.06222, 0.1054], "
        "p=0.031, 5 pairs of seeds"
    )
    assert verdict(BETTER, BASE).kind == "FAIL"


def test_pairs_are_matched_by_seed_whatever_their_order():
    seeds = dict(zip([7, 3, 9, 1, 5], MUON, strict=True))
    backwards = dict(reversed(list(seeds.items())))
    base = arm("adamw", dict(zip([7, 3, 9, 1, 5], ADAMW, strict=True)))
    first = verdict(base, arm("muon", seeds))
    assert first == verdict(base, arm("muon", backwards))
    assert first.gain == pytest.approx(verdict(BASE, BETTER).gain)


def test_five_seeds_carry_one_comparison_and_not_two():
    both = judge(
        BASE, [BETTER, arm("lion", MUON)], Above(), metric="val_loss", better="lower"
    )
    alone = verdict(BASE, BETTER, num_comparisons=2)
    for found in (*both.values(), alone):
        assert found.kind == "INVALID"
        assert found.needed_seeds == 6
        assert found.p == 1
        assert found.reason == (
            "5 pairs of seeds cannot carry 2 comparisons at 0.05: it takes 6"
        )
    assert verdict(BASE, BETTER, alpha=0.01).needed_seeds == 7


def test_the_pilot_of_three_seeds_is_no_comparison_however_large_its_gain():
    without, warmed = [3.359, 3.357, 3.360], [2.343, 2.367, 2.392]
    found = verdict(arm("post-LN", without), arm("warm-up", warmed))
    assert (found.kind, found.needed_seeds) == ("INVALID", 5)
    assert found.gain.mean == pytest.approx(0.99, abs=0.005)


def test_a_family_is_corrected_by_holm_in_which_an_invalid_one_counts():
    base = arm("adamw", [*ADAMW, 2.355])
    most = arm("most", [*MUON, 2.27])
    less = arm("less", [*MUON[:5], 2.356])  # one pair, the least gain, against it
    options = dict(metric="val_loss", better="lower")
    found = judge(base, [less, most], Above(), **options)
    assert [found[name].p for name in ("most", "less")] == [2 / 64, 2 / 64]
    assert {v.kind for v in found.values()} == {"PASS"}
    assert verdict(base, less, num_comparisons=3).p == 6 / 64
    unfair = arm("most", [*MUON, 2.27], read_step=200)
    found = judge(base, [less, unfair], Above(), **options)
    assert found["most"].kind == "INVALID"
    assert found["less"].p == 4 / 64
    assert found["less"].kind == "FAIL"


UNFAIR = {
    "edge": (
        dict(edges=[Edge("optim.schedule.peak", 0.1, "highest")]),
        r"muon: the best optim.schedule.peak=0.1 is the highest that was tried: widen",
    ),
    "budget": (
        dict(budget={"trials": 64, "tokens": 1e6}),
        "unequal budgets: trials is 16 for adamw, 64 for muon",
    ),
    "untold budget": (
        dict(budget={"tokens": 1e6}),
        "unequal budgets: trials is 16 for adamw, not told for muon",
    ),
    "mid-schedule": (
        dict(read_step=200),
        "muon was read at step 200 of a schedule that ends at 400",
    ),
}


@pytest.mark.parametrize("case", UNFAIR)
def test_what_is_not_fair_is_invalid_however_good_it_looks(case):
    changed, reason = UNFAIR[case]
    found = verdict(BASE, arm("muon", MUON, **changed))
    assert found.kind == "INVALID"
    assert found.reason.startswith(reason)
    assert "\n" not in found.reason
    assert found.needed_seeds is None


def test_the_baseline_must_be_fair_as_well_and_all_faults_are_told():
    weak = arm("adamw", ADAMW, edges=[Edge("decay", 0, "lowest")], read_step=100)
    found = verdict(weak, BETTER)
    assert found.kind == "INVALID"
    assert found.reason.count("; ") == 1
    assert len(faults(weak, BETTER)) == 2
    assert faults(BASE, BETTER) == []


def test_a_run_that_is_missing_is_not_left_out_in_silence():
    found = verdict(BASE, arm("muon", [*MUON[:4], 2.0, 1.9]))
    assert found.reason == "seeds [5] have a run of one arm only: run the other"
    found = verdict(BASE, arm("muon", {}))
    assert (found.kind, found.reason) == ("INVALID", "muon has no runs")


@pytest.mark.parametrize("lost", [math.inf, math.nan, -math.inf])
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_runs_that_diverged_count_as_lost(lost, better):
    sign = 1 if better == "lower" else -1
    first, second = sign * np.array([*ADAMW, 2.35]), sign * np.array([*MUON, 2.27])
    options = dict(better=better, metric="score")
    assert verdict(arm("a", first), arm("b", second), **options).kind == "PASS"
    second[:2] = lost
    found = verdict(arm("a", first), arm("b", second), **options)
    assert found.kind == "FAIL"
    assert found.gain.method == "none"
    assert found.num_diverged == (0, 2)
    assert found.needed_seeds is None
    assert found.reason.endswith("; 2 of 6 runs of b diverged")
    found = verdict(arm("b", second), arm("a", first), **options)
    assert found.num_diverged == (2, 0)
    assert found.gain.mean == math.inf
    assert found.p == sign_flip([math.inf, math.inf, *(sign * (second - first)[2:])])


def test_more_is_better_where_the_caller_says_so():
    found = verdict(BETTER, BASE, metric="bleu", better="higher")
    assert found.kind == "PASS"
    assert found.gain.mean > 0


def test_a_floor_must_be_beaten_by_more_than_noise():
    assert verdict(BASE, BETTER, Above(0.06)).kind == "PASS"
    found = verdict(BASE, BETTER, Above(0.08))
    assert found.gain.mean > 0.08
    assert found.kind == "FAIL"
    assert "not shown to be better than adamw by more than 0.08" in found.reason
    assert verdict(BETTER, BASE, Above(-0.12)).kind == "PASS"
    assert verdict(BETTER, BASE, Above(-0.05)).kind == "FAIL"


@pytest.mark.parametrize("paired", [True, False])
def test_a_gain_whose_interval_holds_none_is_no_winner_whatever_its_p(paired):
    seeds = range(5) if paired else range(10, 15)
    uneven = dict(zip(seeds, [2.0, 2.345, 2.345, 2.345, 2.345], strict=True))
    found = verdict(arm("adamw", [2.35] * 5), arm("muon", uneven))
    assert found.p <= 0.05
    assert found.gain.low < 0 < found.gain.mean
    assert found.kind == "FAIL"
    assert found.needed_seeds > 5
    assert found.reason.startswith("muon is not shown to be better than adamw")
    assert found.reason.endswith("; the interval is not all above 0")


def test_a_failure_says_how_many_seeds_a_gain_like_this_takes():
    found = verdict(BASE, BETTER, Above(0.08))
    gains = np.subtract(ADAMW, MUON)
    told = needed_seeds(gains.mean() - 0.08, gains.std(ddof=1), paired=True)
    assert found.needed_seeds == told > 5
    assert f"takes {told} seeds" in found.reason
    assert verdict(BETTER, BASE).needed_seeds is None
    nearly = arm("muon", [*MUON[:4], 2.3615])  # the t-test would be content
    assert verdict(BASE, nearly).needed_seeds == 6


def test_arms_that_share_no_seed_are_regrouped():
    other = arm("mu{on}", {10 + seed: score for seed, score in enumerate(MUON[:4])})
    found = verdict(BASE, other)
    assert found.kind == "PASS"
    assert found.p == regroup(np.array(ADAMW), np.array(MUON[:4])) == 1 / 126
    assert "4 seeds of an arm" in found.reason
    found = verdict(BASE, other, Above(0.08))
    sd = math.sqrt((np.var(ADAMW, ddof=1) + np.var(MUON[:4], ddof=1)) / 2)
    room = np.mean(ADAMW) - np.mean(MUON[:4]) - 0.08
    assert found.needed_seeds == needed_seeds(room, sd, paired=False) > 5
    few = arm("muon", {9: 2.2, 10: 2.2})
    assert verdict(BASE, few).p == 1 / 21
    found = verdict(BASE, few, num_comparisons=2)
    assert (found.kind, found.needed_seeds) == ("INVALID", 4)
    found = verdict(arm("adamw", ADAMW[:2]), few)
    assert (found.kind, found.needed_seeds) == ("INVALID", 3)


def test_equal_is_what_two_tests_show_and_not_what_no_test_found():
    same = arm("wsd", [2.355, 2.351, 2.364, 2.354, 2.359])
    assert verdict(BASE, same).kind == "FAIL"
    found = verdict(BASE, same, Within(0.01))
    assert found.kind == "PASS"
    assert found.reason.startswith("wsd is within 0.01 of adamw in val_loss")
    found = verdict(BASE, same, Within(0.0015))
    assert found.kind == "FAIL"
    gains = np.subtract(ADAMW, [same.scores[seed] for seed in range(5)])
    room, sd = 0.0015 - abs(gains.mean()), gains.std(ddof=1)
    told = needed_seeds(room, sd, paired=True, aim=0.9)
    assert found.needed_seeds == told > needed_seeds(room, sd, paired=True)
    for far in (
        verdict(BASE, BETTER, Within(0.01)),
        verdict(BETTER, BASE, Within(0.01)),
    ):
        assert far.needed_seeds is None
        assert "more seeds of such runs would not show it" in far.reason
    lost = arm("wsd", [2.355, 2.351, 2.364, 2.354, math.nan])
    assert verdict(BASE, lost, Within(0.01)).kind == "FAIL"
    alone = verdict(arm("adamw", [2.3]), arm("wsd", [2.3]), Within(0.01))
    assert (alone.kind, alone.needed_seeds) == ("INVALID", 2)


def test_ranking_by_the_objective_and_two_arms_of_one_name_are_refused():
    for metric in ("objective", "val_objective"):
        with pytest.raises(ValueError, match=f"metric='{metric}' holds each arm's own"):
            verdict(BASE, BETTER, metric=metric)
    with pytest.raises(ValueError, match="'muon' is the name of more than one arm"):
        verdict(BETTER, BETTER)
    with pytest.raises(ValueError, match="better='less' is not known"):
        verdict(BASE, BETTER, better="less")
