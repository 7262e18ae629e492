"""core/settings, core/overrides, core/registry: from what is stated to what is run."""

import math
from typing import Literal

import pytest

from core.overrides import resolve
from core.refusal import LIMIT
from core.registry import Block, Entry, Range
from core.settings import check_all, complete, dump, load
from core.types import Number


def run(*, num_steps: int, seed: int = 0, init_from: str = ""):
    """The top of the config."""


def adam(*, b1: Number = 0.9, b2: Number = 0.999, sparse: bool = False):
    """A rule."""


def lion(*, b1: Number = 0.9, b2: Number = 0.99, mode: Literal["a", "b"] = "a"):
    """Another, whose default of b2 is its own."""


def wsd(*, peak: Number, warmup_steps: int, decay_steps: int, num_steps: int):
    """A schedule; `num_steps` is given."""


def cosine(*, peak: Number, warmup_steps: int, num_steps: int, final: Number = 0.0):
    """Another schedule."""


def make(*, rule: dict, schedule: dict, clip_norm: Number = math.inf):
    """The optimizer; its blocks are parameters as well."""


def tsv(*, files: tuple[str, ...], split: tuple[Number, Number] = (0.5, 0.5)):
    """A source."""


def fits(*, warmup_steps: int, decay_steps: int, **_):
    if warmup_steps + decay_steps > 1_000:
        raise ValueError(f"{warmup_steps=} and {decay_steps=} are too long.")


BETA, PEAK = Range("[0, 1)"), Range("(0, inf)")
BLOCKS = {
    "": Block(Entry(run, "", {"num_steps": Range("[1, inf)")})),
    "data": Block({"tsv": Entry(tsv, "", {"split": Range("[0, 1]")})}),
    "optim": Block(Entry(make, "", {"clip_norm": Range("(0, inf]", neutral=math.inf)})),
    "optim.rule": Block(
        {
            "adam": Entry(adam, "", {"b1": BETA, "b2": BETA}),
            "lion": Entry(lion, "", {"b1": BETA, "b2": BETA}),
        }
    ),
    "optim.schedule": Block(
        {
            "wsd": Entry(wsd, "", {"peak": PEAK}, fits),
            "cosine": Entry(cosine, "", {"peak": PEAK}),
        },
        given=("num_steps",),
    ),
}


def stated():
    """What a small experiment states."""
    schedule = dict(name="wsd", peak=1e-3, warmup_steps=50, decay_steps=100)
    return dict(
        num_steps=900,
        data=dict(name="tsv", files=("a.tsv", "b.tsv")),
        optim=dict(rule=dict(name="adam"), schedule=schedule),
    )


def test_silence_means_the_default_of_the_signature():
    config = complete(stated(), BLOCKS)
    assert config["seed"] == 0
    assert config["optim"]["clip_norm"] == math.inf
    assert config["optim"]["rule"] == dict(name="adam", b1=0.9, b2=0.999, sparse=False)
    assert config["data"]["split"] == (0.5, 0.5)
    assert "num_steps" not in config["optim"]["schedule"]  # it is given
    check_all(config, BLOCKS)


def test_what_was_stated_is_left_as_it_was():
    config = stated()
    complete(config, BLOCKS)["optim"]["schedule"]["peak"] = 7.0
    assert config == stated()


def test_a_block_of_defaults_may_be_left_out():
    blocks = {"": Block(Entry(lambda: 0, "")), "a": Block(Entry(run, ""))}
    assert complete({}, blocks) == {"a": {"seed": 0, "init_from": ""}}
    with pytest.raises(
        ValueError, match=r"^a.num_steps has no value, and it needs one"
    ):
        check_all(complete({}, blocks), blocks)


def test_the_order_in_which_keys_are_stated_does_not_change_the_json():
    config = stated()
    turned = {key: config[key] for key in reversed(config)}
    assert dump(complete(config, BLOCKS)) == dump(complete(turned, BLOCKS))


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("optimm", {}, r"^optimm=\{\} is not known. Did you mean 'optim'\?"),
        ("optim.lrr", 3.0, r"^optim.lrr=3.0 is not known"),
        (
            "optim.rule.sparce",
            1,
            r"^optim.rule.sparce=1 is not known. Did you mean 'sparse'",
        ),
        ("optim", 3, r"^optim=3 must be a block of keys\.$"),
        ("optim.rule", {}, r"^optim.rule.name has no value.*Known: \['adam', 'lion'\]"),
        ("optim.rule.name", "adamm", "^optim.rule.name='adamm'.*Did you mean 'adam'"),
        ("optim.rule.name", ["adam"], "^optim.rule.name=.*is not known"),
        ("optim.rule.b1", 1.0, r"^optim.rule.b1=1.0 must lie in \[0, 1\)\.$"),
        ("optim.rule.b1", 0, r"^optim.rule.b1=0 must be a float such as 1.0"),
        ("optim.rule.b1", True, "^optim.rule.b1=True must be a float"),
        ("optim.rule.b1", math.nan, "^optim.rule.b1=nan must be a float"),
        ("optim.rule.b1", None, "^optim.rule.b1=None must be a float"),
        ("optim.rule.sparse", 1, "^optim.rule.sparse=1 must be true or false"),
        ("optim.clip_norm", 1e39, "^optim.clip_norm=1e[+]39 must be.*float32"),
        ("optim.clip_norm", 1e-39, "^optim.clip_norm=1e-39 must be.*float32"),
        ("seed", 1.0, "^seed=1.0 must be an integer"),
        ("seed", True, "^seed=True must be an integer"),
        ("num_steps", 0, r"^num_steps=0 must lie in \[1, inf\)"),
        ("init_from", 3, "^init_from=3 must be a text"),
        ("data.files", ["a"], r"^data.files=\['a'\] must be a tuple"),
        ("data.files", ("a", 1), "^data.files=.* must be a tuple"),
        ("data.files", "ab", "^data.files='ab' must be a tuple"),
        ("data.split", (0.5,), "^data.split=.* must be a tuple of 2 floats"),
        ("data.split", (0.5, 1.5), r"^data.split=\(0.5, 1.5\) must lie in \[0, 1\]"),
        ("optim.schedule.decay_steps", 999, "^warmup_steps=50 and decay_steps=999"),
        ("seed", "x" * 10_000, "^seed='xxx.*xxx' must be an integer"),
    ],
)
def test_a_wrong_config_is_one_line_that_names_the_key(path, value, line):
    config = stated()
    *outer, leaf = path.split(".")
    part = config
    for key in outer:
        part = part[key]
    part[leaf] = value
    with pytest.raises(ValueError, match=line) as refused:
        check_all(complete(config, BLOCKS), BLOCKS)
    assert len(str(refused.value)) <= LIMIT


def test_a_block_that_went_missing_after_completion_is_seen():
    config = complete(stated(), BLOCKS)
    del config["optim"]["rule"]
    with pytest.raises(ValueError, match=r"^optim.rule is missing"):
        check_all(config, BLOCKS)


def test_a_choice_of_words_tells_true_from_one():
    blocks = {"": Block(Entry(count, ""))}
    check_all({"pieces": 1}, blocks)
    with pytest.raises(
        ValueError, match=r"^pieces=True is not known. Known: \['1', '2"
    ):
        check_all({"pieces": True}, blocks)


def count(*, pieces: Literal[1, 2]):
    """A builder with a choice of numbers."""


def test_overrides_change_their_keys_and_no_other():
    typed = {"optim.schedule.peak": "2", "seed": "7", "data.files": "x,y"}
    config, notes = resolve(stated(), typed, BLOCKS)
    expected = complete(stated(), BLOCKS)
    expected["optim"]["schedule"]["peak"] = 2.0
    expected["seed"] = 7
    expected["data"]["files"] = ("x", "y")
    assert config == expected
    assert notes == []


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (
            "optim.schedule.peek",
            "^optim.schedule.peek='1' is not known.*'optim.sch.*peak'",
        ),
        ("peak", "^peak='1' is not known. Did you mean 'optim.schedule.peak'"),
        ("optim", "^optim='1' must be a block.*--config.optim.clip_norm=1"),
        ("seed.x", "^seed.x='1' is not known. Did you mean 'seed'"),
        ("", "^='1' is not known"),
        ("optim.", "^optim.='1' is not known"),
        ("optim.schedule.num_steps", "^optim.schedule.num_steps='1'.*mean 'num_steps'"),
        ("x" * 10_000, "^xxx.*xxx='1' is not known"),
    ],
)
def test_an_override_of_no_key_is_refused_with_the_nearest(key, line):
    with pytest.raises(ValueError, match=line) as refused:
        resolve(stated(), {key: "1"}, BLOCKS)
    assert len(str(refused.value)) <= LIMIT


def test_an_overridden_value_is_held_against_its_range():
    with pytest.raises(ValueError, match=r"optim.rule.b2=1.0 must lie in \[0, 1\)"):
        resolve(stated(), {"optim.rule.b2": "1"}, BLOCKS)
    with pytest.raises(ValueError, match="decay_steps=2000 are too long"):
        resolve(stated(), {"optim.schedule.decay_steps": "2000"}, BLOCKS)


def test_another_name_keeps_what_both_take_and_says_what_it_drops():
    config, notes = resolve(stated(), {"optim.schedule.name": "cosine"}, BLOCKS)
    expected = dict(name="cosine", peak=1e-3, warmup_steps=50, final=0.0)
    assert config["optim"]["schedule"] == expected
    assert notes == [
        "optim.schedule.name=cosine keeps peak, warmup_steps and drops decay_steps."
    ]


def test_another_name_brings_its_own_defaults():
    config, notes = resolve(stated(), {"optim.rule.name": "lion"}, BLOCKS)
    assert config["optim"]["rule"] == dict(name="lion", b1=0.9, b2=0.99, mode="a")
    assert notes == []


@pytest.mark.parametrize("turn", [False, True])
def test_keys_of_a_new_name_are_typed_beside_it_in_any_order(turn):
    typed = {"optim.rule.mode": "b", "optim.rule.name": "lion", "optim.rule.b2": "0.5"}
    if turn:
        typed = dict(reversed(typed.items()))
    config, _ = resolve(stated(), typed, BLOCKS)
    assert config["optim"]["rule"] == dict(name="lion", b1=0.9, b2=0.5, mode="b")


def test_a_key_of_the_old_name_is_refused_beside_the_new_one():
    typed = {"optim.rule.name": "lion", "optim.rule.sparse": "true"}
    with pytest.raises(ValueError, match=r"^optim.rule.sparse='true' is not known"):
        resolve(stated(), typed, BLOCKS)


def test_the_same_name_again_changes_nothing():
    base = stated()
    base["optim"]["rule"]["b2"] = 0.5
    config, notes = resolve(base, {"optim.rule.name": "adam"}, BLOCKS)
    assert (config, notes) == (complete(base, BLOCKS), [])


def test_an_artefact_and_its_experiment_take_a_new_name_alike(tmp_path):
    (tmp_path / "config.json").write_text(dump(complete(stated(), BLOCKS)))
    typed = {"optim.rule.name": "lion"}
    again = resolve(load(tmp_path / "config.json"), typed, BLOCKS)
    assert again == resolve(stated(), typed, BLOCKS)
