"""study/recipe: a budget spent in stages, what is taken, and what is left to read.

The search is real and so are its sweeps; only the training is made up, by a formula
that has the best config known and a clock that says what a trial takes.
"""

import contextlib
import hashlib
import json
import math
import pathlib
import re
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import launch
from core import settings
from core.overrides import resolve
from study import outcomes, recipe, sweep
from study.recipe.budget import seconds_of
from study.recipe.report import Recipe
from study.recipe.stages import STAGES
from tests.runs import reading, text_folder
from train.logs import read_json, write_json
from train.schema import SCHEMA

COMPILE, TRIAL = 10.0, 2.0  # seconds
BEST = math.log2(0.01)  # of the peak


class Training:
    """Runs by a formula: less at the best rate, by muon, and with noise of `sd`."""

    def __init__(self, sd=0.003, better=None, diverges=lambda config: False):
        self.sd, self.better, self.diverges = (
            sd,
            better or (lambda config: 0.0),
            diverges,
        )
        self.now, self.trained, self.dies_after = 0.0, [], math.inf

    def __call__(self, config, folder, wishes, command):
        self.now += COMPILE
        for wish in wishes:
            self.dies_after -= 1
            if self.dies_after < 0:
                raise KeyboardInterrupt
            full = sweep.configured(config, wish.point)
            self.now += TRIAL / len(jax.devices())
            self.trained.append(str(folder / wish.point.name))
            self.write(outcomes.trial_folder(folder, wish.point), full, len(wishes))

    def write(self, run, config, num_wishes):
        steps, lost = config["num_steps"], self.diverges(config)
        score = math.nan if lost else self.loss(config)
        (run / "config.json").write_text(settings.dump(config))
        write_json(run / "provenance.json", {"launches": [{"command": ["launch.py"]}]})
        tokens = steps * config["batch_size"] * 16
        line = dict(step=steps, loss=score, val_loss=score, tokens=tokens, seconds=1.0)
        (run / "metrics.jsonl").write_text("" if lost else json.dumps(line) + "\n")
        summary = dict(steps=3 if lost else steps, stopped_early=lost, tokens=tokens)
        summary |= dict(seconds=1.0, compile_seconds=COMPILE / num_wishes)
        summary |= dict(val_loss=score) | ({"diverged": "NaN"} if lost else {})
        write_json(run / "summary.json", summary)

    def loss(self, config):
        peak = config["optim"]["schedule"]["peak"]
        value = 2 + 0.02 * (math.log2(peak) - BEST) ** 2 - self.better(config)
        text = settings.dump({k: v for k, v in config.items() if k != "data"})
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        common = np.random.default_rng(config["seed"]).normal(0, 0.05)
        return value + common + np.random.default_rng(seed).normal(0, self.sd)


class Search(NamedTuple):
    """A search that has ended."""

    folder: pathlib.Path
    given: Any
    recipe: Recipe
    said: list[str]

    @property
    def text(self):
        return (self.folder / "recipe.md").read_text()


def search(place, training, budget="8m", **overrides: Any):
    """A search by a formula, in a folder of `place`."""
    said, given = [], reading(**overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "train", training)
        patch.setattr(time, "monotonic", lambda: training.now)
        found = recipe.run(given, budget, place / "search", say=said.append)
    return Search(place / "search", given, found, said)


def rule(config):
    return config["optim"]["rule"]["name"]


def peak(config):
    return config["optim"]["schedule"]["peak"]


def by_muon(config):
    return 0.1 * (rule(config) == "muon")


AMPLE = "20m"  # for all stages with all their seeds
LOW: dict[str, Any] = dict(optim__schedule__peak=0.0008)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search from a rate that is far too low, where muon is better."""
    training = Training(better=by_muon)
    done = search(tmp_path_factory.mktemp("found"), training, AMPLE, **LOW)
    return done, training


def test_it_finds_the_best_rate_and_rule_and_proves_them(found):
    done, _ = found
    assert 0.005 < peak(done.recipe.config) < 0.02
    assert rule(done.recipe.config) == "muon"
    assert done.recipe.lines[0].startswith("PASS: recipe beats given by")
    written = settings.load(done.folder / "recipe.json")
    assert resolve(written, {}, SCHEMA)[0] == done.recipe.config
    names = [line.partition(":")[0] for line in done.said]
    assert names[:4] == ["0-pilot", "1-rate", "2-rate-wider", "3-optimizer"]
    assert "rule=muon" in done.text
    assert "## What to try next" in done.text
    for stage in STAGES:
        assert stage.why in done.text
    page = read_json(done.folder / "comparison.json")
    assert page["finding"] in done.text
    assert page["baseline"] == "given"


def test_the_words_of_a_recipe_make_it_of_the_given_config(found):
    done, _ = found
    words = done.recipe.lines[1].removeprefix("Recipe: ").split()
    typed = dict(word.removeprefix("--config.").split("=") for word in words)
    assert resolve(done.given, typed, SCHEMA)[0] == done.recipe.config
    assert done.recipe.config != done.given


def test_the_last_comparison_has_seeds_of_its_own(found):
    used: dict[bool, set[int]] = {True: set(), False: set()}
    for file in found[0].folder.rglob("trial.json"):
        used["-last" in str(file)].add(read_json(file)["seed"])
    assert len(used[True]) >= 5
    assert not used[True] & used[False]


def test_killed_again_and_again_it_comes_to_the_same(found, tmp_path):
    whole, trained = found[0], found[1].trained
    killed, again, lives = Training(better=by_muon), None, 0
    while again is None:
        killed.dies_after, lives = 41, lives + 1
        with contextlib.suppress(KeyboardInterrupt):
            again = search(tmp_path, killed, AMPLE, **LOW)
    assert lives > 3
    assert again.recipe.lines[:2] == whole.recipe.lines[:2]
    assert len(killed.trained) == len({*killed.trained}) == len(trained)
    assert {path.name for path in again.folder.iterdir()} == {
        path.name for path in whole.folder.iterdir()
    }
    killed.dies_after = 0  # a search at its end trains nothing
    assert search(tmp_path, killed, AMPLE, **LOW).recipe == again.recipe


def test_a_folder_holds_one_recipe(found):
    done, training = found
    place = done.folder.parent
    with pytest.raises(ValueError, match="holds another recipe: its config is"):
        search(place, training)
    with pytest.raises(ValueError, match="holds another recipe: its budget_seconds is"):
        search(place, training, "2h", **LOW)


def test_where_only_seeds_differ_the_given_config_stands(tmp_path):
    def flat(config):
        return 0.02 * (math.log2(peak(config)) - BEST) ** 2

    done = search(tmp_path, Training(sd=0.02, better=flat))
    assert done.recipe.config == done.given
    assert re.match("FAIL: .* The recipe is the given config", done.recipe.lines[0])
    assert "No difference that the seeds show: kept" in done.text
    assert "It changes nothing" in done.text


def test_rates_that_diverge_break_nothing(tmp_path):
    high = Training(diverges=lambda config: peak(config) > 0.006)
    done = search(tmp_path, high, optim__schedule__peak=0.008)
    assert re.match("The given config diverged with all .* seeds", done.recipe.lines[0])
    assert 0.002 < peak(done.recipe.config) < 0.006
    assert "3 of 3 diverged" in done.text


def test_where_every_run_diverges_the_recipe_is_the_given_config(tmp_path):
    done = search(tmp_path, Training(diverges=lambda config: True))
    assert done.recipe.config == done.given
    assert done.recipe.lines[0].startswith("Every run diverged")
    assert not (done.folder / "comparison.html").exists()
    assert done.text


def test_half_the_batch_is_judged_on_equal_tokens(tmp_path):
    half = Training(better=lambda config: 0.1 * (config["batch_size"] == 4))
    done = search(tmp_path, half, "15m")
    assert done.recipe.config["batch_size"] == 4
    assert done.recipe.config["num_steps"] == 2 * done.given["num_steps"]
    assert done.recipe.lines[0].startswith("PASS")


def test_a_budget_is_kept_and_what_it_has_no_room_for_is_told(tmp_path):
    training = Training(better=by_muon)
    done = search(tmp_path, training, "75s", optim__schedule__peak=0.002)
    assert 50 < training.now <= 75
    assert re.match(r"\d+-last: .*, seeds ([5-9]|1\d|20)\)", done.said[-1])
    assert any("left out" in line for line in done.said)
    assert "Left out: its least takes" in done.text


def test_a_budget_that_is_too_small_says_which_would_do(tmp_path):
    told = r"^--budget=30s is too small: .* take --budget=(\w+)\.$"
    with pytest.raises(ValueError, match=told) as error:
        search(tmp_path, Training(), "30s")
    least = str(error.value).rpartition("=")[2].rstrip(".")
    with pytest.raises(ValueError, match="is too small"):
        search(tmp_path, Training(), f"{seconds_of(least) - 2}s")
    assert search(tmp_path, Training(), least).text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "^recipe needs --budget=TIME, such as --budget=30m"),
        (["--budget=30"], "^--budget='30' must be a time above 0"),
        (["--budget=0m"], "^--budget='0m' must be a time above 0"),
        (["--budget=m30"], "such as 90s, 1h30m or --budget=30m"),
        (
            ["--budget=1h", "--config.num_steps=0", "--config.num_epochs=1"],
            "^num_steps=0",
        ),
        (["--budget=1h", "--config.evaluate.patience=2"], "^evaluate.patience=2 ends"),
        (
            [
                "--budget=1h",
                "--config.optim.schedule.name=noam",
                "--config.optim.schedule.width=16",
            ],
            "no peak",
        ),
        (["--budget=1h", "--config.data.validation_share=0.0"], "no validation split"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, capsys, words, line):
    config = "--config=experiments/shakespeare.py:tiny"
    data = [f"--config.data.folder={text_folder()}", "--config.data.train=squares.txt"]
    place = f"--workdir={tmp_path / 'search'}"
    assert launch.main(["recipe", config, place, *data, *words]) == 2
    assert re.search(line, capsys.readouterr().err)
    assert not (tmp_path / "search").exists()


def test_a_dry_run_lists_what_is_tried(capsys):
    config = "--config=experiments/shakespeare.py:tiny"
    assert launch.main(["recipe", config, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [x.partition(":")[0] for x in lines if x[0] != " "] == [
        stage.name for stage in STAGES
    ]
    assert "  rule=muon, schedule.peak=0.01" in lines


@pytest.mark.slow
def test_a_search_runs_whole_and_its_recipe_trains(tmp_path, capsys):
    config = "--config=experiments/shakespeare.py:tiny"
    data = [f"--config.data.folder={text_folder()}", "--config.data.train=squares.txt"]
    words = ["recipe", config, "--budget=1h", f"--workdir={tmp_path / 'search'}", *data]
    low = "--config.optim.schedule.peak=1e-4"
    assert launch.main([*words, low]) == 0, capsys.readouterr().err
    assert "PASS" in capsys.readouterr().out
    found = f"--config={tmp_path / 'search' / 'recipe.json'}"
    assert launch.main(["train", found, f"--workdir={tmp_path / 'run'}"]) == 0
