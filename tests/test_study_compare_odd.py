"""study/compare/: what is odd about runs must not become a finding."""

import json
import math

import numpy as np
import pytest

from study.compare import compare
from study.compare.compute import against_compute
from study.compare.contest import finding
from study.compare.differences import differences
from study.compare.importance import importance
from study.compare.race import time_to_target
from study.compare.tuning import best_of_k, initial_loss, sensitivity
from study.power import detectable_effect
from study.verdict import Above
from tests.comparing import write_sweep
from tests.runs import tiny
from tests.test_study_compare import ADAM, MUON, PEAK, judged, write

LOST = math.nan


def test_pairs_that_diverged_in_both_arms_clear_no_floor(tmp_path):
    base = write(tmp_path / "base", [*[LOST] * 3, *ADAM[:2]])
    near = write(tmp_path / "near", [*[LOST] * 3, *(x + 0.001 for x in ADAM[:2])])
    found = judged(base, near, question=Above(-0.02)).verdicts["near"]
    assert (found.kind, found.p) == ("FAIL", 0.25)  # of two pairs that say something


def test_who_is_hardly_worse_is_not_said_to_win(tmp_path):
    base = write(tmp_path / "base", ADAM)
    near = write(tmp_path / "near", [x + 0.004 + 0.001 * (x > 2.36) for x in ADAM])
    told = judged(base, near, question=Above(-0.02))
    assert told.verdicts["near"].kind == "PASS"
    assert finding(told).startswith(
        "near is less than 0.02 nats worse than base, if at all (95 % "
    )


def test_tokens_that_are_not_told_are_no_equal_budget(tmp_path):
    told, silent = write(tmp_path / "told", ADAM), write(tmp_path / "silent", MUON)
    for path in silent.glob("*/summary.json"):
        known = json.loads(path.read_text())
        del known["tokens"]
        path.write_text(json.dumps(known))
    for first, second in ((told, silent), (silent, told)):
        (found,) = judged(first, second).verdicts.values()
        assert found.kind == "INVALID"
        assert "tokens is" in found.reason
        assert "not told" in found.reason


def test_packing_is_forgiven_whatever_a_third_arm_spent(tmp_path):
    losses = [*MUON, 2.27]
    base = write(tmp_path / "base", [*ADAM, 2.36])
    near = write(tmp_path / "near", losses, tokens=154_000)
    far = write(tmp_path / "far", losses, tokens=300_000)
    kinds = {n: v.kind for n, v in judged(base, near, far).verdicts.items()}
    assert kinds == {"near": "PASS", "far": "INVALID"}


def test_arms_whose_numbers_look_alike_stay_apart(tmp_path):
    for rate, losses in ((0.0123451, ADAM), (0.0123452, MUON)):
        config = tiny(optim__schedule__peak=rate)
        write(tmp_path, losses, named=f"{rate}-", config=config)
    told = judged(tmp_path, by=[PEAK])
    names = ["schedule.peak=0.0123451", "schedule.peak=0.0123452"]
    assert [arm.name for arm in told.arms] == names
    assert told.verdicts[names[1]].kind == "PASS"


def test_a_first_training_loss_at_the_end_is_not_that_of_no_training(tmp_path):
    for rate, worse in ((0.01, 0.0), (0.1, 0.3)):
        config, losses = tiny(optim__schedule__peak=rate), [x + worse for x in ADAM]
        write(tmp_path / "tuned", losses, named=f"{rate}-", config=config, points=1)
    for path in tmp_path.glob(
        "tuned/*/metrics.jsonl"
    ):  # learnt by heart, and told once
        line = json.loads(path.read_text())
        path.write_text(json.dumps(line | {"loss": 1.5}) + "\n")
    told = judged(tmp_path / "tuned", write(tmp_path / "one", ADAM, points=1))
    assert initial_loss(told) == math.inf
    (facts,) = sensitivity(told).data["arms"]
    assert facts["sensitivity"] == pytest.approx(0.15)
    expected = best_of_k(told).data[0]["expected"]
    assert expected == pytest.approx([np.mean(ADAM) + 0.15, np.mean(ADAM)])


def test_the_best_of_k_has_its_low_end_below_where_more_is_better(tmp_path):
    for rate in range(1, 9):
        config, loss = tiny(optim__schedule__peak=rate / 100), LOST if rate > 7 else 1.0
        write(tmp_path / "many", [loss], named=f"{rate}-", config=config)
    one = write(tmp_path / "one", [1.0])
    for number, path in enumerate(sorted(tmp_path.glob("*/*/summary.json"))):
        known = json.loads(path.read_text()) | {"val_accuracy": number / 10}
        path.write_text(json.dumps(known))
    part = best_of_k(judged(tmp_path / "many", one, metric="val_accuracy"))
    (facts,) = part.data
    sides = [facts[side] for side in ("low", "median", "high")]
    assert np.all(np.diff(sides, axis=0)[:, 1:-1] >= 0)
    assert sides[0][0] == -math.inf
    assert facts["expected"][-1] == 0.6
    assert part.notes[0].endswith("diverged counts as \N{MINUS SIGN}∞.")


def test_a_first_loss_that_is_nan_does_not_hide_the_others(tmp_path):
    runs = write(tmp_path / "runs", [*ADAM[:2], LOST])
    line = {"step": 1, "loss": "nan", "tokens": 10, "seconds": 0.1}
    (runs / "2" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert 3 < initial_loss(judged(runs)) < 4


def test_of_arms_that_diverged_the_one_that_did_less_ranks_first(tmp_path):
    base = write(tmp_path / "base", [LOST] * 5)
    once = write(tmp_path / "once", [LOST, *ADAM[1:]])
    often = write(tmp_path / "often", [*[LOST] * 4, MUON[4]])
    ranked = [arm.name for arm in judged(base, often, once).ranked]
    assert ranked == ["once", "often", "base"]


def test_what_could_have_been_seen_counts_all_comparisons(tmp_path):
    paths = [
        write(tmp_path / name, [x + 0.01 * n * (x > 2.3) for x in [*ADAM, 2.29]])
        for n, name in enumerate("abc")
    ]
    for part in differences(judged(*paths)).data:
        gains = [0.01 * "abc".index(part["candidate"]) * (x > 2.3) for x in ADAM]
        sd = np.std([*gains, 0.0], ddof=1)
        seen = detectable_effect(sd, 6, paired=True, alpha=0.025)
        assert part["detectable"] == pytest.approx(seen)
    four = [
        write(tmp_path / f"{n}four", [x + n * x**2 for x in ADAM[:4]]) for n in (0, 1)
    ]
    (part,) = differences(judged(*four)).data
    assert math.isnan(part["detectable"])  # for no result of four pairs is below .05


def test_the_end_of_a_run_that_was_stopped_is_no_end_of_a_schedule(tmp_path):
    whole = write(tmp_path / "whole", ADAM)
    cut = write(tmp_path / "cut", MUON, steps=200)
    arms = against_compute(judged(whole, cut)).data["arms"]
    last = {one["name"]: one["mid_schedule"][-1] for one in arms}
    assert last == {"whole": False, "cut": True}


def test_a_run_beside_the_trials_of_a_sweep_is_none_of_them(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", seeds=range(2))
    write(sweep / "extra", MUON[:2], config=tiny(optim__rule__name="adam"))
    shares = importance(judged(sweep)).data[0]["shares"]
    assert sum(shares.values()) == pytest.approx(1)


def test_provenance_that_is_no_object_is_a_damaged_run(tmp_path):
    runs = write(tmp_path / "runs", ADAM)
    (runs / "4" / "provenance.json").write_text("[1]")
    assert [one.name for one in judged(runs).found.unread] == ["runs/4"]


def test_a_page_does_not_take_the_numbers_of_another(tmp_path):
    paths = [str(write(tmp_path / "adam", ADAM[:1]))]
    kept, again = tmp_path / "out" / "kept.html", tmp_path / "out" / "again.html"
    compare(paths, str(kept))
    compare(paths, str(kept))  # the same page is written anew
    before = (tmp_path / "out" / "comparison.json").read_bytes()
    with pytest.raises(ValueError, match=r"has the numbers of kept\.html"):
        compare(paths, str(again))
    assert not again.exists()
    assert (tmp_path / "out" / "comparison.json").read_bytes() == before


@pytest.mark.parametrize("name", ["floor", "margin", "target"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_question_needs_numbers(name, value, tmp_path):
    paths = [str(write(tmp_path / "adam", ADAM[:1]))]
    with pytest.raises(ValueError, match=name):
        compare(paths, str(tmp_path / "page.html"), **{name: value})


def test_arms_are_not_told_apart_by_what_changes_nothing(tmp_path):
    for often in (10, 20):
        write(tmp_path, ADAM, named=f"{often}-", config=tiny(log_every=often))
    with pytest.raises(ValueError, match=r"by='log_every' changes what is written"):
        judged(tmp_path, by=["log_every"])


def test_a_gain_of_nothing_is_neither_better_nor_worse(tmp_path):
    told = judged(write(tmp_path / "a", ADAM), write(tmp_path / "b", ADAM))
    assert finding(told).startswith(
        "No winner can be named: b is not shown to be better than a (95 %"
    )


@pytest.mark.parametrize("name", ["step", "tokens", "seconds"])
def test_a_curve_that_runs_backwards_is_damaged_and_the_page_is_made(name, tmp_path):
    runs = write(tmp_path / "runs", ADAM)
    path = runs / "4" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[3][name] = 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = judged(runs)
    (one,) = told.found.unread
    assert one == ("runs/4", f"is damaged: {name} falls from line to line")
    assert len(time_to_target(told).data["arms"][0]["seeds"]["steps"]) == 4
