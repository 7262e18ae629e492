"""study/claims/: what is planted is found, and what is not is not."""

import math

import numpy as np
import pytest

from study.claims.compared import gap_of_gaps, no_worse, sensitivity, steps_to_target
from study.claims.judged import Judged, Part, above, plain
from study.claims.runs import Run, Runs, arm, runs_of
from study.claims.searched import replayed
from study.claims.small import regularized
from study.claims.transfer import transferred
from study.outcomes import add, fail, outcome_of, trial_folder
from study.search.grid import grid
from study.space import Space
from study.stated import branch
from train.logs import write_json

RATES = [0.01, 0.02, 0.04, 0.08, 0.16]


def noise(seed):
    """The same for all runs of a seed, and a little that is not."""
    return 0.02 * seed


def made(axes, loss, *, lines=lambda point, loss: [], num_seeds=5):
    """The runs of a grid, with the loss that a function gives to each point."""
    space = Space(branch(axes), tuple(range(num_seeds)), {})
    runs = []
    for number, point in enumerate(grid(space)):
        value = loss(point.overrides) + noise(point.seed) + 1e-3 * (number % 3)
        logged = lines(point.overrides, value)
        picks = space.retrace(point.overrides)
        runs.append(Run(point, picks, value, 400, logged))
    return Runs(space, runs)


def kinds(judged):
    return [part.kind for part in judged.parts if not part.told]


def valley(rate, best, floor=2.0, slope=0.1):
    """A loss over the logarithm of the rate, lowest at `best`."""
    return floor + slope * abs(math.log2(rate / best))


NORMS = {"norm": ["post", "pre"], "warmup": [0, 75]}


def gaps(post, pre, **options):
    def loss(values):
        gap = post if values["norm"] == "post" else pre
        return 2.4 + (0 if values["warmup"] else gap)

    runs = made(NORMS, loss, **options)
    words = dict(of="norm", large="post", small="pre", along="warmup")
    return gap_of_gaps(runs, **words, floor=0.4, initial_loss=4.2)


def test_a_gap_of_gaps_is_found_where_it_is_and_only_there():
    found = gaps(0.9, 0.1)
    assert found.kind == "PASS"
    assert found.effect.mean == pytest.approx(0.8, abs=0.01)
    assert found.p == 1 / 32
    assert gaps(0.45, 0.1).kind == "FAIL"
    assert gaps(0.1, 0.9).kind == "FAIL"


def test_a_run_that_diverged_has_the_loss_of_no_training():
    found = gaps(math.inf, 0.1)
    assert found.kind == "PASS"
    assert found.effect.mean == pytest.approx(4.2 - 2.4 - 0.1, abs=0.1)


def test_four_seeds_carry_no_claim():
    assert gaps(0.9, 0.1, num_seeds=4).kind == "INVALID"


def test_a_mean_above_the_floor_does_not_do_if_its_interval_is_not():
    effects = [0.041, 0.042, 0.2, 0.3, 0.041]  # all above, and their spread is wide
    losses = dict(enumerate(effects)), dict.fromkeys(range(5), 0.0)
    part = above("", arm("a", losses[0]), arm("b", losses[1]), 0.04, metric="x")
    assert part.p == 1 / 32
    assert part.effect.mean > 0.04 > part.effect.low
    assert part.kind == "FAIL"
    assert "the interval is not all above 0.04" in part.sentence


def sensitive(slopes, tops, best=0.04):
    def loss(values):
        return valley(values["rate"], best, slope=slopes[values["norm"]])

    def lines(values, loss):
        top = tops[values["norm"]] if values["rate"] == 0.08 else 1.0
        return [{"step": 1, "logit/a/0": top}, {"step": 2, "logit/b/1": 1.0}]

    runs = made({"norm": [False, True], "rate": RATES}, loss, lines=lines)
    words = dict(of="norm", baseline="false", candidate="true", along="rate")
    numbers = dict(ratio=2.0, at=0.08, score_ratio=50.0, initial_loss=4.2)
    return sensitivity(runs, **words, **numbers, score="logit")


def test_sensitivity_and_the_largest_score_are_compared_as_ratios():
    found = sensitive({False: 0.3, True: 0.1}, {False: 1e4, True: 20.0})
    assert kinds(found) == ["PASS", "PASS"]
    assert found.parts[0].effect.mean == pytest.approx(3, rel=0.05)
    assert found.parts[1].effect.mean == pytest.approx(500)
    calm = sensitive({False: 0.15, True: 0.1}, {False: 800.0, True: 20.0})
    assert kinds(calm) == ["FAIL", "FAIL"]


def test_an_optimum_at_the_edge_of_its_rates_is_invalid_however_large_the_effect():
    for edge in (RATES[0], RATES[-1]):
        found = sensitive({False: 0.3, True: 0.1}, {False: 1e4, True: 20.0}, edge)
        assert found.kind == "INVALID"
        assert "widen the grid" in found.sentence


def racing(speeds, best=None, rates=RATES):
    """Each method's loss falls to 2 as 2 + 1 / (speed step), at its best rate.

    `rates` are those of muon.
    """
    best = dict.fromkeys(speeds, 0.04) | (best or {})

    def of(values):
        name = next(n for n in speeds if values["code"] == list(speeds).index(n))
        return name, valley(values["rate"], best[name], floor=0.0)

    def loss(values):
        name, off = of(values)
        return 2 + 40 / (speeds[name] * 400) + off

    def lines(values, last):
        name, _ = of(values)
        shift = last - 40 / (speeds[name] * 400)
        return [
            {"step": s, "val_loss": shift + 40 / (speeds[name] * s)}
            for s in range(20, 401, 20)
        ]

    words = {
        name: {"code": number, "rate": rates if name == "muon" else RATES}
        for number, name in enumerate(speeds)
    }
    runs = made({"method": dict(blocks=words)}, loss, lines=lines)
    return steps_to_target(
        runs,
        of="method",
        baseline="adamw",
        candidates=("muon",),
        share=0.85,
        beside=("tuned",),
    )


def test_a_method_that_is_there_in_fewer_steps_passes_and_the_tuned_one_is_told():
    found = racing({"adamw": 1.0, "tuned": 1.5, "muon": 1.6})
    assert found.kind == "PASS"
    assert found.parts[0].effect.mean == pytest.approx(1 / 1.6, rel=0.1)
    assert found.parts[1].told
    assert found.parts[1].kind == "FAIL"
    assert racing({"adamw": 1.0, "tuned": 1.5, "muon": 1.1}).kind == "FAIL"
    assert racing({"adamw": 1.0, "tuned": 1.5, "muon": 0.5}).kind == "FAIL"


def test_a_race_at_the_edge_of_a_grid_is_none():
    for name in ("adamw", "muon"):
        speeds = {"adamw": 1.0, "tuned": 1.0, "muon": 1.6}
        found = racing(speeds, {name: RATES[-1]})
        assert found.kind == "INVALID"
        assert found.parts[1].kind != "INVALID"  # told beside, and not judged


def behind(free, best=0.04, rates=RATES):
    def loss(values):
        start = {"cosine": 2.0, "free": 2.0 + free, "prodigy": 2.03}
        off = 0 if values["method"] == "prodigy" else valley(values["rate"], best, 0.0)
        return start[values["method"]] + off

    words = {"cosine": {"rate": RATES}, "free": {"rate": rates}}
    words |= {"prodigy": {"rate": 1.0}}
    runs = made({"method": dict(choice=words)}, loss)
    words = dict(of="method", baseline="cosine", candidates=("free", "prodigy"))
    return no_worse(runs, **words, margins=(0.02, 0.05), along="rate")


def test_no_worse_is_behind_by_less_than_the_margin():
    assert kinds(behind(0.01)) == ["PASS", "PASS"]
    assert kinds(behind(-0.5)) == ["PASS", "PASS"]
    assert kinds(behind(0.03)) == ["FAIL", "PASS"]
    assert kinds(behind(0.01, RATES[0])) == ["INVALID", "INVALID"]


def test_a_candidate_that_was_tuned_further_is_no_comparison():
    more, less = [0.005, *RATES], RATES[1:4]
    found = behind(-0.5, rates=more).parts[0]
    assert found.kind == "INVALID"
    assert "settings is 5 for cosine, 6 for free" in found.sentence
    assert kinds(behind(-0.5, rates=less)) == ["PASS", "PASS"]
    speeds = {"adamw": 1.0, "tuned": 1.0, "muon": 1.6}
    assert racing(speeds, rates=more).kind == "INVALID"
    assert racing(speeds, rates=less).kind == "PASS"


def cured(validation, training, smoothed):
    rates = [0.0, 0.1, 0.2, 0.3]

    def loss(values):
        if "smoothing" in values:
            return smoothed
        return validation[rates.index(values["dropout"])]

    def lines(values, last):
        if "smoothing" in values:
            return [{"step": 1, "loss": 1.0}]
        trained = training[rates.index(values["dropout"])]
        shift = last - loss(values)
        return [
            {"step": s, "loss": 3.0 if s < 8 else trained + shift} for s in range(10)
        ]

    words = {"dropout": {"dropout": rates}, "smoothing": {"smoothing": 0.1}}
    runs = made({"cure": dict(blocks=words)}, loss, lines=lines)
    words = dict(of="cure", strengths="dropout", along="dropout", other="smoothing")
    return regularized(runs, **words, floor=0.03, alpha=0.01)


def test_dropout_closes_the_gap_some_is_best_and_smoothing_helps():
    training = [1.4, 1.9, 2.1, 2.3]
    found = cured([2.47, 2.42, 2.5, 2.58], training, 2.37)
    assert kinds(found) == ["PASS", "PASS", "PASS"]
    assert found.effect.mean == pytest.approx(0.1, abs=0.01)
    assert kinds(cured([2.47, 2.42, 2.5, 2.58], training, 2.46))[0] == "FAIL"
    wide = cured([2.47, 2.42, 2.5, 2.77], [1.4, 1.9, 2.1, 2.36], 2.37)
    assert wide.parts[1].p < 0.01  # but from .2 to .3 the gap does not fall
    assert kinds(wide) == ["PASS", "FAIL", "PASS"]
    assert kinds(cured([2.3, 2.42, 2.5, 2.58], training, 2.2))[2] == "FAIL"
    assert cured([2.47, 2.42, 2.4, 2.35], training, 2.37).kind == "INVALID"


def logged(good, num_trials=60, mute=()):
    """Trials whose early scores tell the late ones, or nothing; `mute` have none."""
    rng = np.random.default_rng(0)
    ends = np.sort(2 + rng.exponential(0.3, num_trials))
    early = ends if good else rng.permutation(ends)

    def lines(values, last):
        n = round(values["rate"])
        scores = {45: early[n] + 0.3, 135: early[n] + 0.1, 405: ends[n]}
        scores = {} if n in mute else scores
        return [{"step": step, "val_loss": score} for step, score in scores.items()]

    axes = {"rate": [float(n) for n in range(num_trials)]}
    runs = made(axes, lambda values: 2.0, lines=lines, num_seeds=1)
    numbers = dict(num_replays=20, num_trials=40, factor=3, num_rungs=3)
    return replayed(runs, **numbers, max_gap=0.01, max_cost_share=0.35)


def test_halving_passes_where_early_scores_tell_and_fails_where_they_do_not():
    found = logged(good=True)
    assert kinds(found) == ["PASS", "PASS"]
    assert logged(good=False).kind == "FAIL"


def wide(best, gain=0.15):
    """Best rates by parametrization and width; a wider model is better by `gain`."""
    widths = ("32", "64", "128")

    def loss(values):
        n = values["model.width"]
        rate = best[values["by"]][widths.index(str(n))]
        return valley(values["rate"], rate) - gain * math.log2(n / 32)

    axes = {
        "by": ["mup", "standard"],
        "width": dict(blocks={w: {"model.width": int(w)} for w in widths}),
        "rate": [0.005, *RATES],
    }
    words = dict(of="by", stays="mup", moves="standard", over="width", widths=widths)
    return transferred(
        made(axes, loss), **words, along="rate", max_octaves=1.0, min_octaves=2.0
    )


def test_a_run_that_diverged_before_it_was_ever_scored_is_the_last_of_its_search():
    assert logged(good=True, mute=(0, 30)).kind == "PASS"


@pytest.mark.parametrize("state", ["failed", "new", "nan"])
def test_what_could_not_be_run_is_no_loss(state, tmp_path):
    space = Space(branch({"rate": RATES}), (0,), {})
    point = next(iter(grid(space)))
    add(tmp_path, point)
    folder = trial_folder(tmp_path, point)
    if state == "failed":
        fail(folder, "no memory.")
    if state == "nan":
        write_json(folder / "summary.json", {"steps": 4, "val_loss": math.nan})
        assert runs_of(space, [outcome_of(folder)]).runs[0].loss == math.inf
        return
    said = "could not be run: no memory. Remove it" if state == "failed" else "not end"
    with pytest.raises(ValueError, match=said):
        runs_of(space, [outcome_of(folder)])


def test_a_rate_that_stays_and_one_that_falls():
    falls = (0.04, 0.02, 0.01)
    assert kinds(wide({"mup": (0.04,) * 3, "standard": falls})) == ["PASS"] * 3
    assert kinds(wide({"mup": (0.04, 0.04, 0.02), "standard": falls})) == ["PASS"] * 3
    found = wide({"mup": falls, "standard": (0.04, 0.04, 0.02)})
    assert kinds(found) == ["FAIL", "FAIL", "PASS"]
    worse = wide({"mup": (0.04,) * 3, "standard": falls}, gain=-0.01)
    assert kinds(worse) == ["PASS", "PASS", "FAIL"]
    edge = wide({"mup": (0.04,) * 3, "standard": (0.02, 0.01, 0.005)})
    assert kinds(edge) == ["PASS", "INVALID", "PASS"]


def test_a_claim_is_as_good_as_its_worst_part():
    good, bad = plain("a", True, "a"), plain("b", False, "b")
    never = Part("c", "INVALID", "c")
    told = plain("d", False, "d", told=True)
    assert Judged([good, told]).kind == "PASS"
    assert Judged([good, bad, told]).kind == "FAIL"
    assert Judged([good, bad, never]).kind == "INVALID"
