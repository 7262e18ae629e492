"""study/recipe: what a stage tries, what fits into its room, and what is taken."""

import math

import numpy as np
import pytest

from core.overrides import resolve
from study import sweep
from study.intervals import interval
from study.outcomes import DONE, Outcome
from study.point import Point
from study.recipe.budget import SLACK, Cost
from study.recipe.journal import Journal
from study.recipe.judge import choose
from study.recipe.plan import Plan, Room, fitted, write
from study.recipe.report import typed
from study.recipe.stages import STAGES, optimizers, regularizers, schedules
from tests.runs import reading
from train.schema import SCHEMA


def _plan(num_settings, num_seeds):
    named = {f"{n}": {"optim.decay": float(n)} for n in range(num_settings)}
    return Plan("some", "why", named, range(num_seeds), 0.0, [])


def _outcomes(plan, loss_XR):
    return [
        Outcome(Point(dict(setting), seed), None, DONE, 1, loss_XR[n][seed], {})  # pyright: ignore[reportArgumentType]
        for n, setting in enumerate(plan.settings.values())
        for seed in plan.seeds
    ]


def test_the_best_of_several_is_taken_by_luck_in_one_search_of_twenty():
    rng, taken, plan = np.random.default_rng(0), 0, _plan(7, 5)
    for _ in range(400):
        common = rng.normal(0, 1, 5)
        losses = common + rng.normal(0, 0.1, (7, 5))
        taken += choose(plan, _outcomes(plan, losses)).taken
    assert interval([1] * taken + [0] * (400 - taken)).low < 0.05
    assert taken < 0.05 * 400


def test_a_difference_beyond_noise_is_taken():
    rng, plan = np.random.default_rng(0), _plan(7, 5)
    losses = rng.normal(0, 1, 5) + rng.normal(0, 0.1, (7, 5))
    losses[4] -= 1
    choice = choose(plan, _outcomes(plan, losses))
    assert (choice.best, choice.taken) == ("4", True)


def test_a_setting_that_diverged_is_never_the_best():
    plan = _plan(3, 3)
    losses = np.array([[2.0, 2.1, 2.2], [1.0, math.nan, 1.0], [3.0, 3.1, 3.2]])
    choice = choose(plan, _outcomes(plan, losses))
    assert (choice.best, choice.taken) == ("0", False)
    losses[0, 1] = math.nan
    choice = choose(plan, _outcomes(plan, losses))
    assert (choice.best, choice.taken) == ("2", True)
    assert choice.gain("1") == -math.inf


def test_seeds_go_before_settings():
    config = reading()
    cost = Cost(1.0, 1.0, num_devices=1)
    blocks = STAGES[0].blocks(config)  # of 1, 2, 2 and 2 settings

    def shape(share, most=1e9):
        plan = fitted("rate", "", blocks, config, Room(share, most), cost)
        return len(plan.settings), len(plan.seeds)

    assert shape(SLACK * 36) == (7, 5)
    assert shape(SLACK * 35) == (7, 4)
    assert shape(SLACK * 22) == (7, 3)
    assert shape(SLACK * 16) == (5, 3)
    assert shape(SLACK * 2) == (3, 3)  # its least may take more than its share
    assert shape(SLACK * 2, most=SLACK * 9) == (0, 0)


def test_every_setting_of_every_stage_is_a_config():
    for given in (
        dict(optim__rule__name="lion", optim__schedule__name="cosine"),
        dict(optim__rule__name="sgd", optim__schedule__name="one_cycle"),
        dict(optim__decay="0.0", model__dropout="0.1", batch_size="1"),
    ):
        config = reading(**given)
        for stage in STAGES:
            first, *others = stage.blocks(config)
            point = Point(first[0], config["seed"])
            assert sweep.configured(config, point) == config, stage.name
            for setting in (x for block in others for x in block):
                changed = sweep.configured(config, Point(setting, config["seed"]))
                assert changed != config, (stage.name, setting)


def test_what_the_config_lacks_is_not_tried():
    config = reading(task__smoothing="0.1")
    tried = [key for block in regularizers(config) for x in block for key in x]
    assert tried.count("task.smoothing") == 1
    names = [x.get("optim.schedule.name") for block in schedules(config) for x in block]
    assert {*names} == {None, "cosine", "linear"}
    rules = {x.get("optim.rule.name") for block in optimizers(config) for x in block}
    assert rules == {None, "muon", "lion"}


def test_lion_has_a_lower_rate_and_as_much_more_decay():
    config = reading()
    *_, lion = optimizers(config)
    own = config["optim"]["schedule"]["peak"] * config["optim"]["decay"]
    center = lion[0]
    assert center["optim.schedule.peak"] == 0.002
    assert center["optim.schedule.peak"] * center["optim.decay"] == pytest.approx(own)


def test_what_a_new_builder_brings_is_not_typed():
    config = reading()
    texts = {"optim.rule.name": "muon", "optim.rule.momentum": "0.9"}
    found = resolve(config, texts, SCHEMA)[0]
    assert typed(config, found) == [f"--config.{k}={v}" for k, v in texts.items()]


def test_a_plan_that_was_noted_is_the_one_that_is_taken(tmp_path):
    def new():
        raise AssertionError("there is one")

    journal = Journal(tmp_path, reading(), 60, [], print)
    plan = Plan("rate", "why", {"a": {"optim.decay": 0.1}}, (0, 1), 9.5, ("no room",))
    write(journal.place("rate"), plan)
    assert journal.planned("rate", new) == plan
