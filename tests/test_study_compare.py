"""study/compare/: who is compared with whom, by which runs, and what may be said."""

import json
import math
from typing import Any

import numpy as np
import pytest

from study.compare import compare
from study.compare.compute import against_compute
from study.compare.contest import contest, finding
from study.compare.race import time_to_target
from study.compare.runs import read, scored
from study.significance import holm, sign_flip
from study.verdict import Above, Within
from tests.comparing import RATES, write_run, write_sweep
from tests.runs import reading

ADAM = [2.357, 2.349, 2.366, 2.352, 2.361]
MUON = [2.270, 2.281, 2.262, 2.288, 2.265]
PEAK = "optim.schedule.peak"


def judged(*paths, metric="val_loss", question=None, **options):
    """The contest of the runs in these folders, without its page."""
    paths = [str(path) for path in paths]
    given = dict(by=(), baseline="", target=None, command=()) | options
    found = scored(read(paths), metric)
    asked = Above() if question is None else question
    return contest(found, paths, metric=metric, question=asked, **given)


def arm_of(told, name):
    return next(arm for arm in told.arms if arm.name == name)


def write(folder, losses, *, named="", seeds=None, config=None, **options):
    """Runs of one setting, a seed after the other; NaN diverged."""
    config = reading() if config is None else config
    for seed, loss in zip(seeds or range(len(losses)), losses, strict=True):
        gone = "the loss is NaN" if math.isnan(loss) else ""
        where = folder / f"{named}{seed}"
        write_run(where, config, seed=seed, loss=loss, diverged=gone, **options)
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three rules at five rates with six seeds: enough for two comparisons."""
    return write_sweep(tmp_path_factory.mktemp("compare") / "sweep", seeds=range(6))


def table_of(sweep):
    """Final losses by rule and rate, a column a seed, straight from the files."""
    table = {}
    for path in sorted(sweep.glob("trials/*/trial.json")):
        trial = json.loads(path.read_text())
        summary = json.loads((path.parent / "summary.json").read_text())
        loss = math.inf if "diverged" in summary else summary["val_loss"]
        key = trial["overrides"]["optim.rule.name"], trial["overrides"][PEAK]
        table.setdefault(key, {})[trial["seed"]] = loss
    return {k: np.array([v[seed] for seed in sorted(v)]) for k, v in table.items()}


def test_words_name_the_arms_and_each_stands_at_the_setting_with_the_best_mean(sweep):
    told, table = judged(sweep, baseline="adam"), table_of(sweep)
    assert [arm.name for arm in told.arms] == ["adam", "lion", "signum"]
    for arm in told.arms:
        means = {rate: table[arm.name, rate].mean() for rate in RATES}
        best = min(means, key=means.__getitem__)
        assert dict(arm.best.values) == {PEAK: best}
        assert list(arm.arm.scores.values()) == list(table[arm.name, best])
        assert len(arm.settings) == len(RATES)


def test_gains_and_p_values_are_those_of_the_files(sweep):
    told, table = judged(sweep, baseline="adam"), table_of(sweep)
    best = {
        name: min((table[name, rate] for rate in RATES), key=np.mean)
        for name in ("adam", "lion", "signum")
    }
    gains = {name: best["adam"] - best[name] for name in ("lion", "signum")}
    p = dict(zip(gains, holm([sign_flip(g) for g in gains.values()]), strict=True))
    for name, verdict in told.verdicts.items():
        assert verdict.gain.mean == pytest.approx(gains[name].mean(), abs=1e-12)
        assert verdict.p == p[name]
    assert p["signum"] == 2 / 64


def test_the_finding_names_the_winner_with_gain_interval_seeds_and_p(sweep):
    gain = judged(sweep, baseline="adam").verdicts["signum"].gain
    assert finding(judged(sweep, baseline="adam")) == (
        f"signum beats adam by {gain.mean:.3f} nats (95 % {gain.low:.3f} to "
        f"{gain.high:.3f}, 6 seeds, p = 0.031)"
    )


def test_no_winner_is_named_where_seeds_are_too_few_for_the_comparisons(tmp_path):
    told = judged(write_sweep(tmp_path / "s", rates=RATES[1:]), baseline="adam")
    assert finding(told).startswith(
        "No winner can be named: 5 pairs of seeds cannot carry 2 comparisons at 0.05"
    )


def test_without_a_baseline_it_is_what_the_sweep_started_from(sweep):
    assert judged(sweep).baseline.name == "adam"
    swept = json.loads((sweep / "sweep.json").read_text())
    assert swept["config"]["optim"]["rule"]["name"] == "adam"


def test_several_paths_are_the_arms_and_the_first_is_the_baseline(tmp_path):
    muon, adam = tmp_path / "muon", tmp_path / "adam"
    told = judged(write(muon, MUON), write(adam, ADAM))
    assert [arm.name for arm in told.arms] == ["muon", "adam"]
    assert told.baseline.name == "muon"
    told = judged(muon, adam, baseline="adam")
    assert told.verdicts["muon"].kind == "PASS"
    assert finding(told).startswith("muon beats adam by 0.084 nats")


def test_arms_may_be_told_apart_by_a_key_with_numbers(tmp_path):
    for decay in (0.0, 0.1):
        config = reading(optim__decay=decay)
        write(tmp_path / "runs", ADAM, named=f"{decay}-", config=config)
    for by in ([], ["optim.decay"]):
        names = [arm.name for arm in judged(tmp_path / "runs", by=by).arms]
        assert names == ["optim.decay=0", "optim.decay=0.1"]


def test_of_two_words_that_always_go_together_one_names_the_arms(tmp_path):
    for rule, norm in (("adam", "pre"), ("lion", "post")):
        config = reading(optim__rule__name=rule, model__norm=norm)
        write(tmp_path / "runs", ADAM, named=rule, config=config)
    assert [arm.name for arm in judged(tmp_path / "runs").arms] == ["adam", "lion"]


def test_a_best_value_at_the_edge_is_invalid_unless_it_can_go_no_further(tmp_path):
    def runs(name, key, values, best):
        for value in values:
            config = reading(**{key: value})
            losses = np.add(ADAM, 0.1 * abs(values.index(value) - best))
            write(tmp_path / name, losses, named=f"{value}-", config=config)
        return tmp_path / name

    inner = runs("inner", "optim__schedule__peak", [0.01, 0.02, 0.03], 1)
    high = runs("high", "optim__schedule__peak", [0.01, 0.02, 0.03], 2)
    zero = runs("zero", "optim__decay", [0.0, 0.1, 0.2], 0)
    told = judged(inner, high, zero)
    assert [arm.arm.edges for arm in told.arms] == [[], [(PEAK, 0.03, "highest")], []]
    assert told.verdicts["high"].kind == "INVALID"
    assert "peak=0.03 is the highest that was tried" in finding(judged(inner, high))


def test_a_setting_that_diverged_with_a_seed_is_not_the_best_however_low(tmp_path):
    low = [2.0, 2.0, 2.0, 2.0, math.nan]
    write(tmp_path / "a", low, named="x", config=reading(optim__decay=0.1))
    write(tmp_path / "a", MUON, named="y", config=reading(optim__decay=0.2))
    told = judged(write(tmp_path / "b", ADAM), tmp_path / "a")
    assert dict(arm_of(told, "a").best.values) == {"optim.decay": 0.2}
    assert sum(s.num_diverged for s in arm_of(told, "a").settings) == 1


def test_a_run_that_diverged_counts_as_lost_and_is_told(tmp_path):
    adam, muon = write(tmp_path / "adam", ADAM), tmp_path / "muon"
    write(muon, [*MUON[:4], math.nan])
    told = judged(adam, muon)
    assert told.verdicts["muon"].kind == "FAIL"
    assert told.verdicts["muon"].num_diverged == (0, 1)
    assert "1 of muon diverged" in finding(told)
    assert "better in the mean" not in finding(told)
    assert told.ranked[0].name == "adam"
    assert judged(muon, adam).verdicts["adam"].gain.mean == math.inf


def test_runs_without_a_result_are_named_and_in_no_verdict(tmp_path):
    adam = write(tmp_path / "adam", [*ADAM, 2.3, 2.3, 2.3])
    (adam / "5" / "summary.json").unlink()
    (adam / "6" / "config.json").write_text("{")
    (adam / "7" / "config.json").unlink()
    (tmp_path / "adam" / "8").mkdir()
    (tmp_path / "adam" / "8" / "trial.json").write_text("{}")
    (tmp_path / "adam" / "8" / "failed.json").write_text('{"reason": "no memory"}')
    told = judged(adam, write(tmp_path / "muon", MUON))
    assert list(arm_of(told, "adam").arm.scores.values()) == ADAM
    why = {one.name: one.why for one in told.found.unread}
    assert why["adam/5"] == "has not ended"
    assert why["adam/6"].startswith("is damaged: ")
    assert why["adam/7"] == "was not begun"
    assert why["adam/8"] == "could not be run: no memory"
    assert told.verdicts["muon"].kind == "PASS"


def test_a_setting_that_lacks_seeds_cannot_be_the_best(tmp_path):
    write(tmp_path / "a", [1.0], named="x", config=reading(optim__decay=0.1))
    write(tmp_path / "a", MUON, named="y", config=reading(optim__decay=0.2))
    told = judged(write(tmp_path / "b", ADAM), tmp_path / "a")
    arm = arm_of(told, "a")
    assert arm.best.mean == pytest.approx(np.mean(MUON))
    assert (arm.num_short, arm.arm.budget["settings"]) == (1, 2)


def test_a_second_run_of_a_setting_and_a_seed_is_not_taken_in_silence(tmp_path):
    write(tmp_path / "a", MUON)
    write(tmp_path / "a", [1.0], named="again")
    told = judged(write(tmp_path / "b", ADAM), tmp_path / "a")
    assert arm_of(told, "a").arm.scores == dict(enumerate(MUON))
    assert [run.name for run in arm_of(told, "a").twice] == ["a/again0"]


def test_unequal_budgets_and_runs_that_stopped_early_are_no_comparison(tmp_path):
    adam = write(tmp_path / "adam", ADAM)
    early = write(tmp_path / "early", MUON, steps=200)
    reason = judged(adam, early).verdicts["early"].reason
    assert "read at step 200 of a schedule that ends at 400" in reason
    assert "unequal budgets: steps is 400 for adam, 200 for early" in reason
    more = write(tmp_path / "more", MUON, config=reading(optim__decay=0.1))
    for decay in (0.05, 0.2):
        config = reading(optim__decay=decay)
        write(more, ADAM, named=f"{decay}-", config=config)
    reason = judged(adam, more).verdicts["more"].reason
    assert reason == "unequal budgets: settings is 1 for adam, 3 for more"


def test_tokens_that_differ_by_packing_alone_are_the_same_budget(tmp_path):
    adam = write(tmp_path / "adam", ADAM)
    near = write(tmp_path / "near", MUON, tokens=154_000)
    assert judged(adam, near).verdicts["near"].kind == "PASS"
    far = write(tmp_path / "far", MUON, tokens=170_000)
    reason = judged(adam, far).verdicts["far"].reason
    assert reason == "unequal budgets: tokens is 153600 for adam, 170000 for far"


def test_batches_of_unlike_sizes_have_unlike_steps_on_equal_tokens(tmp_path):
    adam = write(tmp_path / "adam", ADAM)
    ended: dict[str, Any] = dict(steps=200, stopped_early=False, tokens=153_600)
    double = reading(batch_size=2 * reading()["batch_size"])
    large = write(tmp_path / "large", MUON, config=double, **ended)
    assert judged(adam, large).verdicts["large"].kind == "PASS"
    same = write(tmp_path / "same", MUON, **ended)
    reason = judged(adam, same).verdicts["same"].reason
    assert reason == "unequal budgets: steps is 400 for adam, 200 for same"


def test_equality_is_asked_for_by_a_margin(tmp_path):
    same = [2.355, 2.351, 2.364, 2.354, 2.359]
    adam, wsd = write(tmp_path / "adam", ADAM), write(tmp_path / "wsd", same)
    assert finding(judged(adam, wsd)).startswith("No winner can be named: wsd is not")
    told = finding(judged(adam, wsd, question=Within(0.01)))
    assert told.startswith("wsd equals adam within 0.01 nats (95 % ")


def test_one_arm_alone_is_told_and_is_no_error(tmp_path):
    assert finding(judged(write(tmp_path / "adam", ADAM))).startswith("One arm only")


def test_a_path_without_a_result_is_told_and_not_passed_over(tmp_path):
    adam, muon = write(tmp_path / "adam", ADAM), write(tmp_path / "muon", MUON[:1])
    (muon / "0" / "summary.json").unlink()
    told = judged(adam, muon)
    assert told.empty == ["muon"]
    assert finding(told) == (
        "No winner can be named: of muon there is no run with a result"
    )


def test_a_target_is_reached_at_the_first_evaluation_that_is_as_good(tmp_path):
    adam = write(tmp_path / "adam", ADAM, points=4)
    muon = write(tmp_path / "muon", [*MUON[:4], math.nan], points=4)
    # Made up, a curve is its end and 1.1 (1 - share)^1.5, at quarters of 400 steps.
    told = judged(adam, muon, target=2.45)
    facts = {one["name"]: one for one in time_to_target(told).data["arms"]}
    late = {seed: loss + 1.1 * 0.25**1.5 for seed, loss in enumerate(MUON[:4])}
    expected = [300.0 if late[seed] <= 2.45 else 400.0 for seed in late]
    assert list(facts["muon"]["seeds"]["steps"].values()) == [*expected, math.inf]
    assert facts["muon"]["seeds"]["tokens"]["0"] == 153_600 * expected[0] / 400
    assert facts["muon"]["seeds"]["model_flops"]["0"] == pytest.approx(
        153_600 * 1.2e6 * expected[0] / 400
    )
    assert facts["muon"]["hits"] == 4
    assert facts["adam"]["median"]["steps"] == 400
    assert facts["adam"]["compile_seconds"] == 3.5
    nobody = time_to_target(judged(adam, muon, target=1.0)).data["arms"]
    assert {one["median"]["seconds"] for one in nobody} == {math.inf}


def test_the_same_curve_at_half_the_cost_is_twice_as_fast_at_every_level(tmp_path):
    dear = write(tmp_path / "dear", ADAM, model_flops=2e12)
    cheap = write(tmp_path / "cheap", ADAM, model_flops=1e12)
    told = against_compute(judged(dear, cheap)).data
    facts = {one["name"]: one for one in told["arms"]}
    assert told["cost"] == "model_flops"
    assert facts["cheap"]["speedup"] == pytest.approx([2.0, 2.0, 2.0])
    assert told["levels"][-1] == pytest.approx(np.mean(ADAM))
    assert facts["cheap"]["mid_schedule"] == [True] * 7 + [False]


def test_the_target_is_a_score_that_half_of_the_baseline_reaches(tmp_path):
    four = write(tmp_path / "a", ADAM[:4])
    assert judged(four).target == sorted(ADAM[:4])[2]
    assert judged(write(tmp_path / "b", ADAM)).target == np.median(ADAM)
    lost = write(tmp_path / "c", [*ADAM[:2], *[math.nan] * 3])
    assert math.isnan(judged(lost).target)


def test_more_is_better_in_an_accuracy(tmp_path):
    for name, scores in (("low", [0.2, 0.22, 0.21, 0.2, 0.23]), ("high", [0.3] * 5)):
        write(tmp_path / name, ADAM)
        for seed, score in enumerate(scores):
            path = tmp_path / name / str(seed) / "metrics.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            lines[-1]["val_accuracy"] = score
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = judged(tmp_path / "low", tmp_path / "high", metric="val_accuracy")
    assert finding(told).startswith("high beats low by 0.088 (95 %")
    assert told.ranked[0].name == "high"


WRONG = {
    "no folder": (["{}/adm"], {}, r"adm' is no folder\. Did you mean 'adam'\?"),
    "no run": (["{}/empty"], {}, "empty' holds no run"),
    "twice": (["{}/adam", "{}/adam/"], {}, "adam/' is given twice"),
    "nothing": ([], {}, "no folder is given"),
    "metric": (["{}/adam"], dict(metric="val_los"), "Did you mean 'val_loss'"),
    "objective": (["{}/adam"], dict(metric="val_objective"), "own regularizers"),
    "direction": (["{}/adam"], dict(metric="rate"), "nobody knows which way"),
    "baseline": (["{}/adam", "{}/muon"], dict(baseline="adm"), "mean 'adam'"),
    "by": (["{}/adam"], dict(by=["optim.decoy"]), "Did you mean 'optim.decay'"),
    "same": (["{}/adam"], dict(by=["optim.decay"]), "is 0.1 in all runs"),
    "margin": (["{}/adam"], dict(margin=0.0), r"margin=0\.0 must be above 0"),
    "both": (["{}/adam"], dict(margin=0.1, floor=0.1), "give one of them"),
    "out": (["{}/adam"], dict(out="{}/report.pdf"), r"must be the name of an \.html"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_before_anything_is_written(case, tmp_path):
    for name, losses in (("adam", ADAM[:1]), ("muon", MUON[:1])):
        write(tmp_path / name, losses)
        path = tmp_path / name / "0" / "metrics.jsonl"
        extra = ', "val_objective": 3.0, "rate": 0.1}'
        path.write_text(path.read_text().replace("}", extra))
    (tmp_path / "empty").mkdir()
    paths, options, message = WRONG[case]
    options = dict(options)
    out = options.pop("out", "{}/out/report.html").format(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        compare([path.format(tmp_path) for path in paths], out, **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
