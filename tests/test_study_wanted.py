"""study/search/wanted.py: what a sweep does next, by its folders; and its table."""

import math
import re

import pytest

from study import outcomes, table
from study.point import Point
from study.search.wanted import Search, check, first_points, stated, wanted
from study.space import Axis, Branch, Space, Span, Values
from train.logs import Metrics, write_json

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SPACE = Space(Branch({}, (Axis("rate", "rate", Values(RATES)),)), (0, 1), {})
STEPS = 9


def come_to(folder, point, scores, *, ends="", state="done"):
    """A trial that has these validation losses, by step."""
    outcomes.add(folder, point)
    run = outcomes.trial_folder(folder, point)
    (run / "metrics.jsonl").unlink(missing_ok=True)
    write_json(run / "provenance.json", {})
    with Metrics(run) as metrics:
        for step, score in scores.items():
            metrics.write(step, {"loss": 1.0, "val_loss": score})
    if ends:
        last = max(scores)
        summary = {"steps": last, "val_loss": scores[last], "seconds": 1.0}
        summary |= {"diverged": "why"} if ends == "diverged" else {}
        write_json(run / "summary.json", summary)


def loss_of(point, step):
    return point.overrides["rate"] + 0.01 * point.seed + 1 / step


def simulated(folder, search, *, diverges=(), space=SPACE):
    """Does all that a search wants; what it asked for, round by round."""
    rounds = []
    while wishes := wanted(search, space, outcomes.read(folder), STEPS):
        rounds.append([(w.point.overrides["rate"], w.until) for w in wishes])
        for point, until in wishes:
            steps = [step for step in (1, 3, 9) if step <= until]
            scores = {step: loss_of(point, step) for step in steps}
            bad = point.overrides["rate"] in diverges
            ends = "diverged" if bad else "done" if until == STEPS else ""
            come_to(folder, point, scores, ends=ends)
    return rounds


def test_a_grid_is_run_once_with_all_seeds(tmp_path):
    (asked,) = simulated(tmp_path, Search())
    assert sorted(asked) == sorted((rate, STEPS) for rate in RATES * 2)
    assert {x.state for x in outcomes.read(tmp_path)} == {"done"}


def test_a_point_that_is_longer_than_the_config_is_run_to_its_end(tmp_path):
    axis = Axis("num_steps", "num_steps", Values((STEPS - 1, 2 * STEPS)))
    space = Space(Branch({}, (axis,)), (0,), {})
    asked = {
        w.point.overrides["num_steps"]: w for w in wanted(Search(), space, [], STEPS)
    }
    assert asked[2 * STEPS].until == 2 * STEPS


def test_halving_goes_on_with_the_best_third_of_the_settings(tmp_path):
    first, second, third = simulated(tmp_path, Search("halving"))
    assert sorted(first) == sorted((rate, 1) for rate in RATES * 2)
    assert sorted(second) == [(rate, 3) for rate in (0.1, 0.1, 0.2, 0.2, 0.3, 0.3)]
    assert third == [(0.1, 9)] * 2


def test_halving_never_goes_on_with_what_diverged(tmp_path):
    *_, last = simulated(tmp_path, Search("halving"), diverges=(0.1, 0.2))
    assert last == [(0.3, 9)] * 2


def test_halving_scores_a_setting_by_the_mean_over_its_seeds(tmp_path):
    lucky = 0.9  # the best by far with seed 0, and the worst with seed 1
    search = Search("halving")
    for point, until in wanted(search, SPACE, outcomes.read(tmp_path), STEPS):
        score = (0.0, 9.0)[point.seed] if point.overrides["rate"] == lucky else 1.0
        come_to(tmp_path, point, {until: score})
    asked = wanted(search, SPACE, outcomes.read(tmp_path), STEPS)
    assert {wish.until for wish in asked} == {3}
    assert lucky not in {wish.point.overrides["rate"] for wish in asked}


def test_halving_takes_a_trial_that_ended_early_at_its_last_score(tmp_path):
    search = Search("halving")
    for wish in wanted(search, SPACE, outcomes.read(tmp_path), STEPS):
        early = wish.point.overrides["rate"] == 0.2
        scores = {1: loss_of(wish.point, 1 if not early else 9)}
        come_to(tmp_path, wish.point, scores, ends="done" if early else "")
    rounds = simulated(tmp_path, search)
    assert [sorted(asked) for asked in rounds] == [[(0.1, 3)] * 2 + [(0.3, 3)] * 2]


def test_hyperband_has_its_brackets_one_after_the_other(tmp_path):
    span = Axis("rate", "rate", Span(0.1, 0.9, log=False))
    space = Space(Branch({}, (span,)), (0,), {})
    rounds = simulated(tmp_path, Search("hyperband"), space=space)
    sizes = [(len(asked), asked[0][1]) for asked in rounds]
    assert sizes == [(9, 1), (3, 3), (1, 9), (5, 3), (1, 9), (3, 9)]


def test_tpe_asks_for_some_at_a_time_and_ends_at_the_number_of_settings(tmp_path):
    pytest.importorskip("optuna")
    search = Search("tpe", trials=6, parallel=4, seed=3)
    rounds = simulated(tmp_path, search)
    assert [len(asked) for asked in rounds] == [8, 4]
    assert first_points(search, SPACE, STEPS) == []


def test_tpe_asks_for_nothing_new_while_trials_are_open(tmp_path):
    pytest.importorskip("optuna")
    search = Search("tpe", trials=6, parallel=4, seed=3)
    first = wanted(search, SPACE, [], STEPS)
    for point, _ in first:
        outcomes.add(tmp_path, point)
    for point, until in first[1:]:
        come_to(tmp_path, point, {until: 1.0}, ends="done")
    assert wanted(search, SPACE, outcomes.read(tmp_path), STEPS) == first[:1]


def test_what_was_begun_is_gone_on_with_and_what_failed_is_not(tmp_path):
    points = first_points(Search(), SPACE, STEPS)
    come_to(tmp_path, points[0], {3: 0.5})
    come_to(tmp_path, points[1], {9: 0.5}, ends="done")
    outcomes.add(tmp_path, points[2])
    outcomes.fail(outcomes.trial_folder(tmp_path, points[2]), "lost")
    states = {x.point.id: x.state for x in outcomes.read(tmp_path)}
    assert [states[p.id] for p in points[:3]] == ["running", "done", "failed"]
    left = wanted(Search(), SPACE, outcomes.read(tmp_path), STEPS)
    assert {w.point.id for w in left} == {p.id for p in points} - {
        points[1].id,
        points[2].id,
    }


def test_the_table_is_ranked_by_means_and_one_that_diverged_is_last(tmp_path):
    simulated(tmp_path, Search(), diverges=(0.1,))
    found = outcomes.read(tmp_path)
    rates = [trials[0].point.overrides["rate"] for trials in table.ranked(found)]
    assert rates == [*RATES[1:], 0.1]
    text = table.write(tmp_path, found).read_text().splitlines()
    assert text[0] == "trial,rate,seed,state,steps,val_loss,seconds"
    assert len(text) == 1 + len(found)
    assert "2 of 18 trials diverged." in table.told(found)
    best = table.told(found)[0]
    assert best.startswith("val_loss 0.3161")
    assert best.endswith("n=2  rate=0.2")


def test_a_points_values_come_back_from_its_folder(tmp_path):
    point = Point({"a.b": 1.0, "c": (1, 2), "name": "x", "on": True, "n": 3}, 4)
    outcomes.add(tmp_path, point)
    (found,) = outcomes.read(tmp_path)
    assert (found.point, found.point.id) == (point, point.id)
    assert found.state == "new"
    assert math.isnan(found.value)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"search": "gird"}, "--search='gird' is not known. Did you mean 'grid'?"),
        ({"search": "sobol"}, "--search=sobol needs --trials=N"),
        ({"trials": "4"}, "--trials=4 is nothing to --search=grid"),
        ({"search": "tpe", "trials": "0"}, "--trials='0' must be a whole number of 1"),
        ({"search": "halving", "factor": "1"}, "--factor='1' must be a whole number"),
        ({"search": "halving", "min_steps": "x"}, "--min-steps='x' must be a whole"),
    ],
)
def test_words_of_a_search_are_checked(words, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        stated(words)


def test_a_grid_is_the_search_without_words():
    assert stated({}) == Search()
    check(Search("halving"))
