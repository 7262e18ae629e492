"""study/search/halving, replay: which trials go on, and what that costs."""

import math
import random

import pytest

from study.search.halving import (
    Bracket,
    Job,
    best,
    bracket,
    hyperband,
    jobs,
    promotion,
    spent_steps,
)
from study.search.replay import replay

NAMES = [f"t{n:02d}" for n in range(27)]


def final(name):
    """27 different losses, no two trials alike, whatever their order."""
    return (int(name[1:]) * 11 % 27) / 10 + 1


def score(name, steps):
    """Curves that never cross."""
    return final(name) + 10 / steps


def finish(shape, trials, scores, until=None, seed=0):
    """A controller that asks after every score; they come in an order of their own."""
    rng, asked = random.Random(seed), []
    while (todo := jobs(shape, trials, scores)) and len(asked) != until:
        job = rng.choice(todo)
        asked.append(job)
        scores.setdefault(job.trial, {})[job.until_steps] = score(*job)
    return asked


def test_hyperbands_brackets_are_those_of_its_first_algorithm():
    """n = ceil((s_max + 1) / (s + 1) eta^s); rung i has n / eta^i at R eta^(i - s)."""
    shapes = hyperband(max_steps=81, factor=3)
    assert shapes == (
        Bracket((1, 3, 9, 27, 81), (81, 27, 9, 3, 1)),
        Bracket((3, 9, 27, 81), (34, 11, 3, 1)),
        Bracket((9, 27, 81), (15, 5, 1)),
        Bracket((27, 81), (8, 2)),
        Bracket((81,), (5,)),
    )
    assert hyperband(max_steps=80, min_steps=20, factor=2) == (
        Bracket((20, 40, 80), (4, 2, 1)),
        Bracket((40, 80), (3, 1)),
        Bracket((80,), (3,)),
    )


def test_a_bracket_has_rungs_while_a_trial_is_left_and_steps_are():
    assert bracket(60, max_steps=150) == Bracket((5, 16, 50, 150), (60, 20, 6, 2))
    assert bracket(60, max_steps=150, min_steps=20).steps == (50, 150)
    assert bracket(2, max_steps=150) == Bracket((150,), (2,))
    assert bracket(8, max_steps=80, factor=2).sizes == (8, 4, 2, 1)


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("num_trials=0 must be 1 or more", dict(num_trials=0, max_steps=9)),
        ("factor=1 must be 2 or more", dict(num_trials=9, max_steps=9, factor=1)),
        (r"min_steps=0 must lie in \[1", dict(num_trials=9, max_steps=9, min_steps=0)),
        ("min_steps=9 must lie", dict(num_trials=9, max_steps=8, min_steps=9)),
    ],
)
def test_a_bracket_that_cannot_be_is_refused(line, numbers):
    with pytest.raises(ValueError, match=line):
        bracket(**numbers)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_go_on_in_whatever_order_scores_come(seed):
    shape, scores = bracket(27, max_steps=90), {}
    asked = finish(shape, NAMES, scores, seed=seed)
    by_loss = sorted(NAMES, key=final)
    for steps, size in zip(shape.steps, shape.sizes, strict=True):
        assert {n for n in NAMES if steps in scores[n]} == set(by_loss[:size])
    assert len(asked) == len(set(asked)) == sum(shape.sizes)
    assert spent_steps(scores) == shape.cost_steps == 27 * 3 + 9 * 7 + 3 * 20 + 60
    assert spent_steps(scores, by_loss[:1]) == 90


@pytest.mark.parametrize("until", range(0, 40, 3))
def test_a_controller_that_is_killed_goes_on_as_it_would_have(until):
    shape, scores = bracket(27, max_steps=90), {}
    before = finish(shape, NAMES, scores, until=until)
    waiting = jobs(shape, NAMES, scores)
    assert jobs(shape, NAMES[::-1], dict(reversed(scores.items()))) == waiting
    after = finish(shape, NAMES, scores, seed=until)
    assert len({*before, *after}) == len(before) + len(after) == 40
    assert set(waiting) <= set(after)


def test_a_rung_waits_for_its_last_trial():
    shape = bracket(9, max_steps=90)
    scores = {name: {10: score(name, 10)} for name in NAMES[:8]}
    assert jobs(shape, NAMES[:9], scores) == [Job(NAMES[8], 10)]


def test_equal_scores_are_told_apart_by_name_and_diverged_ones_never_go_on():
    same = {"b": 1.0, "c": 1.0, "a": 1.0, "nan": math.nan, "inf": math.inf, "z": 0.5}
    assert best(same, 3) == ["z", "a", "b"]
    assert best(same, 6) == ["z", "a", "b", "c"]
    shape = Bracket((1, 2, 4), (4, 3, 2))
    scores = {"a": {1: 2.0}, "b": {1: math.nan}, "c": {1: math.inf}, "d": {1: math.nan}}
    assert jobs(shape, [*"abcd"], scores) == [Job("a", 2)]
    scores["a"][2] = math.nan
    assert jobs(shape, [*"abcd"], scores) == []


def test_asha_promotes_as_soon_as_a_trial_is_in_the_best_third():
    steps, scores = (1, 3, 9), {"a": {1: 3.0}, "b": {1: 2.0}}
    assert promotion(steps, 3, scores) is None
    scores["c"] = {1: 4.0}
    assert promotion(steps, 3, scores) == Job("b", 3)
    assert promotion(steps, 3, scores, [Job("b", 3)]) is None
    scores |= {"b": {1: 2.0, 3: 1.5}, "d": {1: 1.0}}
    assert promotion(steps, 3, scores) == Job("d", 3)
    scores |= {"d": {1: 1.0, 3: 1.2}, "e": {1: 9.0}, "f": {1: 9.0}}
    assert promotion(steps, 3, scores) is None  # b and d, of six, have been
    scores["g"] = {1: 0.5, 3: 2.0}
    assert promotion(steps, 3, scores) == Job("d", 9)  # of three at the middle rung
    scores |= {"h": {1: 0.1}, "i": {1: 9.0}}
    assert promotion(steps, 3, scores) == Job("d", 9)  # before h, which is lower down
    assert promotion(steps, 3, scores, [Job("d", 9)]) == Job("h", 3)
    scores = {name: {1: math.nan} for name in "abc"}
    assert promotion(steps, 3, scores) is None


def test_asha_ends_with_as_many_promoted_as_fit_whatever_came_first():
    """Where every trial is in, at least a third of each rung was promoted."""
    for seed in range(5):
        scores, order = {}, NAMES[:]
        random.Random(seed).shuffle(order)
        while order or promotion((1, 3, 9), 3, scores):
            job = promotion((1, 3, 9), 3, scores) or Job(order.pop(), 1)
            assert job.until_steps not in scores.get(job.trial, {})
            scores.setdefault(job.trial, {})[job.until_steps] = score(*job)
        at = {steps: [n for n in NAMES if steps in scores[n]] for steps in (1, 3, 9)}
        assert len(at[1]) == 27
        assert set(sorted(NAMES, key=final)[:9]) <= set(at[3])
        assert len(at[3]) // 3 <= len(at[9])
        assert min(NAMES, key=final) in at[9]


RUNGS = bracket(27, max_steps=90).steps
CURVES = {name: {steps: score(name, steps) for steps in RUNGS} for name in NAMES}


@pytest.mark.parametrize("asha", [False, True])
def test_curves_that_never_cross_give_the_best_for_less(asha):
    for seed in range(5):
        found = replay(CURVES, seed=seed, asha=asha)
        assert found.gap == 0.0
        assert found.cost_share < 0.35
    whole = bracket(27, max_steps=90).cost_steps / (27 * 90)
    costs = {replay(CURVES, seed=seed, asha=asha).cost_share for seed in range(5)}
    assert min(costs) >= whole
    assert (costs == {whole}) is not asha  # ASHA promotes some that a rung would not


def test_curves_that_cross_are_missed_and_the_gap_says_by_how_much():
    """The best at the end is the worst at every rung before it."""
    late = {name: {**of, RUNGS[-1]: 10 - of[RUNGS[-1]]} for name, of in CURVES.items()}
    found = replay(late, seed=0)
    lowest = min(of[RUNGS[-1]] for of in late.values())
    assert found.lowest == lowest < found.found
    assert found.gap == (found.found - lowest) / lowest


def test_a_replay_follows_its_seed_in_which_trials_it_takes():
    sample = [replay(CURVES, seed=seed, num_trials=9) for seed in range(8)]
    assert sample == [replay(CURVES, seed=seed, num_trials=9) for seed in range(8)]
    assert len({found.lowest for found in sample}) > 2
    assert all(found.gap == 0.0 for found in sample)


def test_a_replay_needs_a_score_at_every_rung_and_a_trial_that_ends():
    with pytest.raises(ValueError, match="has no score at step 30, a rung"):
        replay({name: {3: 1.0, 10: 1.0, 90: 1.0} for name in NAMES}, seed=0)
    with pytest.raises(ValueError, match="Every trial diverged"):
        replay({name: dict.fromkeys(RUNGS, math.nan) for name in NAMES}, seed=0)
