"""study/space, stated, checked, point: what `sweep()` says, and what is refused."""

import math
import re

import pytest

from core.refusal import one_line
from core.settings import dump
from launch import load
from study.checked import read
from study.point import Point, configure, text_of, texts
from study.search.grid import grid
from study.space import Options, Span, Values, steps
from tests.sweeping import BLOCKS, CONFIG
from train.schema import SCHEMA


def space_of(axes, blocks=BLOCKS, **words):
    return read({"axes": axes, **words}, CONFIG, blocks)


def values(axes, **words):
    return [point.overrides for point in grid(space_of(axes, **words))]


def test_a_grid_is_the_product_with_the_last_axis_fastest_and_seeds_within():
    points = grid(space_of({"peak": [0.1, 0.2], "width": [1, 2]}, seeds=2))
    assert [(p.overrides["peak"], p.overrides["width"], p.seed) for p in points] == [
        *((0.1, 1, 0), (0.1, 1, 1), (0.1, 2, 0), (0.1, 2, 1)),
        *((0.2, 1, 0), (0.2, 1, 1), (0.2, 2, 0), (0.2, 2, 1)),
    ]


def test_an_axis_under_a_word_is_there_with_that_word_alone():
    rules = {"adam": {"rule.b2": [0.9, 0.99]}, "mix": {"rule.b3": [0.5]}, "lion": {}}
    found = values({"rule.name": dict(choice=rules), "peak": [0.1, 0.2]})
    assert found == [
        *({"rule.name": "adam", "rule.b2": b, "peak": p} for b, p in [(0.9, 0.1)]),
        {"rule.name": "adam", "rule.b2": 0.9, "peak": 0.2},
        {"rule.name": "adam", "rule.b2": 0.99, "peak": 0.1},
        {"rule.name": "adam", "rule.b2": 0.99, "peak": 0.2},
        {"rule.name": "mix", "rule.b3": 0.5, "peak": 0.1},
        {"rule.name": "mix", "rule.b3": 0.5, "peak": 0.2},
        {"rule.name": "lion", "peak": 0.1},
        {"rule.name": "lion", "peak": 0.2},
    ]


def test_a_choice_among_blocks_has_a_name_of_its_own_that_no_point_has():
    ways = {
        "plain": {},
        "wide": {"width": 64, "decay": [0.1, 0.2]},
        "deep": {"kind": dict(blocks={"a": {"on": True}, "b": {"clip": 1.0}})},
    }
    assert values({"way": dict(blocks=ways)}) == [
        {},
        {"width": 64, "decay": 0.1},
        {"width": 64, "decay": 0.2},
        {"on": True},
        {"clip": 1.0},
    ]


def test_an_integer_is_good_where_a_float_is_wanted_and_becomes_one():
    (point,) = values({"decay": [0], "peak": 1})
    assert repr(point) == "{'peak': 1.0, 'decay': 0.0}"
    (axis,) = space_of({"decay": dict(linear=(0, 0.5), points=2)}).axes
    assert repr(steps(axis.domain)) == "(0.0, 0.5)"
    (axis,) = space_of({"peak": dict(log=(1, 100), points=3)}).axes
    assert repr(steps(axis.domain)) == "(1.0, 10.0, 100.0)"


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span(1e-4, 1e-1, True, 4), (1e-4, 1e-3, 1e-2, 1e-1)),
        (Span(0.0, 0.3, False, 4), (0.0, 0.1, 0.2, 0.3)),
        (Span(1, 100, True, 3), (1, 10, 100)),
        (Span(2, 10, False, 3), (2, 6, 10)),
    ],
)
def test_a_range_has_its_points_evenly_and_both_ends(span, expected):
    assert repr(steps(span)) == repr(expected)


def test_words_numbers_and_tuples_in_a_list_are_what_they_look_like():
    space = space_of(
        {"rule.name": ["adam", "lion"], "decay": [0.0, 0.1], "langs": [("a", "b"), ()]}
    )
    kinds = [type(axis.domain) for axis in space.axes]
    assert kinds == [Options, Values, Options]
    assert [*space.axes[2].domain.words] == ["('a', 'b',)", "()"]


def test_seeds_count_from_the_configs_or_are_listed():
    stated = {"axes": {"decay": [0.1]}, "seeds": 3}
    assert read(stated, {**CONFIG, "seed": 7}, BLOCKS).seeds == (7, 8, 9)
    assert space_of({"decay": [0.1]}, seeds=[4, 2]).seeds == (4, 2)
    assert space_of({"decay": [0.1]}).seeds == (0,)


WRONG = {
    "peek='0.1' is not known. Did you mean 'peak'?": {"peek": [0.1]},
    "rule.b3='0.9' is not known. Did you mean 'rule.b": {"rule.b3": [0.9]},
    "rule.b3='0.5' is not known": {"rule.name": ["mix", "lion"], "rule.b3": [0.5]},
    "rule.name='adma' is not known. Did you mean 'adam'?": {"rule.name": ["adma"]},
    "rule='1' must be a block of keys": {"rule": [1]},
    "sweep(): decay=[] has no value": {"decay": []},
    "sweep(): rule.name: choice=[] has no value": {"rule.name": dict(choice=[])},
    "choice={} must name what there is": {"rule.name": dict(choice={})},
    "sweep(): peak: log=(0, 1) must begin above 0": {"peak": dict(log=(0, 1))},
    "sweep(): peak: log=(-1.0, 1) must begin": {"peak": dict(log=(-1.0, 1))},
    "log=(0.2, 0.1) must rise": {"peak": dict(log=(0.2, 0.1))},
    "linear=(1, 1) must rise": {"peak": dict(linear=(1, 1))},
    "linear=(0, inf) must be two finite": {"peak": dict(linear=(0, math.inf))},
    "linear=(0, True) must be two finite": {"peak": dict(linear=(0, True))},
    "linear=(0,) must be two finite": {"peak": dict(linear=(0,))},
    "peak: points=1 must be": {"peak": dict(linear=(0, 1), points=1)},
    "peak: points=2.0 must be": {"peak": dict(linear=(0, 1), points=2.0)},
    "points=3 are of a range": {"rule.name": dict(choice=["lion"], points=3)},
    "'pionts' is not known. Did you mean 'points'": {
        "peak": dict(log=(1, 2), pionts=2)
    },
    "'lin' is not known. Did you mean 'linear'": {"peak": dict(lin=(1, 2))},
    "must have one of ['log', 'linear'": {"peak": dict(log=(1, 2), linear=(1, 2))},
    "and has none": {"peak": dict(points=2)},
    "width=1.5 must be an integer": {"width": [1, 1.5]},
    "width=2.0 must be an integer": {"width": dict(linear=(2.0, 4.0))},
    "decay='a' must be a float": {"decay": ["a"]},
    "decay='0.1' must be a float": {"decay": "0.1"},
    "on=1 must be true or false": {"on": [1]},
    "width='true' must be an integer": {"width": [True, False]},
    "decay=1.0 must lie in [0, 1)": {"decay": [0.5, 1]},
    "width=0 must lie in [1, inf)": {"width": dict(linear=(0, 4))},
    "sweep(): decay=[0, 0.0] has 0 twice": {"decay": [0, 0.0]},
    "rule.name=['lion', 'lion'] has 'lion' twice": {"rule.name": ["lion", "lion"]},
    "width: 5 points from 1 to 3 have 2 twice": {
        "width": dict(linear=(1, 3), points=5)
    },
    "sweep(): decay=None is no value of a config": {"decay": None},
    "decay=nan is no value": {"decay": [math.nan]},
    "sweep(): langs=['a'] is no value": {"langs": [["a"]]},
    "sweep(): seed=[1] is no axis; say seeds=5": {"seed": [1]},
    "rule.b1 is set twice": {
        "rule.b1": [0.5],
        "rule.name": dict(choice={"lion": {"rule.b1": [0.9]}}),
    },
    "width is set twice": {
        "a": dict(blocks={"x": {"width": 1}}),
        "b": dict(blocks={"y": {"width": 2}}),
    },
    "rule.name is set twice under": {
        "rule.name": dict(choice={"lion": {"rule.name": "adam"}})
    },
    "rule.name=lion: [0.1] must be a dict of keys": {
        "rule.name": dict(choice={"lion": [0.1]})
    },
    "axes={} must be a dict from key to values": {},
}


@pytest.mark.parametrize(("line", "axes"), WRONG.items(), ids=range(len(WRONG)))
def test_what_no_config_can_be_is_one_line_that_says_so(line, axes):
    with pytest.raises(ValueError, match=re.escape(line)) as refused:
        space_of(axes)
    assert one_line(str(refused.value)) == str(refused.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("'sede' is not known. Did you mean 'seeds'?", {"sede": 1}),
        ("seeds=0 must be a count", {"seeds": 0}),
        ("seeds=True must be a count", {"seeds": True}),
        ("seeds=[] must be a count", {"seeds": []}),
        ("seeds=[0, 0.5] must be a count", {"seeds": [0, 0.5]}),
        ("seeds=[1, 1] has 1 twice", {"seeds": [1, 1]}),
        ("seeds=-1 must lie in [0, 4294967296)", {"seeds": [-1]}),
    ],
)
def test_words_beside_the_axes_are_checked(line, words):
    with pytest.raises(ValueError, match=re.escape(line)):
        space_of({"decay": [0.1]}, **words)


def test_a_sweep_that_yields_overrides_is_told_the_form():
    with pytest.raises(ValueError, match=r"returned \[.*must be dict\(axes="):
        read([{"decay": 0.1}], CONFIG, BLOCKS)


def test_two_words_that_lead_to_the_same_point_are_refused_in_a_grid():
    ways = dict(blocks={"a": {"decay": [0.0, 0.1]}, "b": {"decay": 0.1}})
    with pytest.raises(ValueError, match=r"the point \{'decay': 0.1\} is there twice"):
        values({"way": ways})


def test_choices_that_do_not_go_together_are_found_in_the_point_that_has_both():
    space = space_of(
        {
            "a": dict(blocks={"0": {}, "x": {"width": 1}}),
            "b": dict(blocks={"0": {}, "y": {"width": 2}}),
        }
    )
    with pytest.raises(ValueError, match="width is set twice in a point, to 1 and 2"):
        grid(space)


def test_a_range_without_points_has_no_grid():
    with pytest.raises(ValueError, match=r"peak=log\(0.1, 0.2\) has no points"):
        values({"peak": dict(log=(0.1, 0.2))})


def test_an_id_is_of_the_content_and_of_nothing_else():
    point = Point({"decay": 0.1, "width": 8}, 1)
    assert point.id == Point({"width": 8, "decay": 0.1}, 1).id
    others = [
        Point({"decay": 0.1, "width": 8}, 2),
        Point({"decay": math.nextafter(0.1, 1), "width": 8}, 1),
        Point({"decay": 0.1, "width": 8.0}, 1),
        Point({"decay": 0.1, "width": "8"}, 1),
        Point({"decay": 0.1}, 1),
    ]
    assert len({point.id, *(other.id for other in others)}) == 6
    assert point.setting == others[0].setting != others[1].setting
    assert point.id == "382a271325"  # folders of old sweeps are found by it


def test_a_name_is_a_folder_of_every_file_system():
    overrides = {f"optim.long_{n}.key": "../:*? \n" for n in range(9)}
    overrides |= {"optim.rule.name": "ademamix", "clip": math.inf, "langs": ("a", "b")}
    name = Point(overrides, 4_294_967_295).name
    assert re.fullmatch(r"[A-Za-z0-9_=,.+-]{1,80}", name)
    assert not name.startswith((".", "-"))
    assert Point({}, 0).name.startswith("seed=0-")


@pytest.mark.parametrize(
    "overrides",
    [
        {"peak": 1e-300 * 1e280, "decay": 0.1 + 0.2, "clip": math.inf},
        {"width": 64, "on": True, "rule.name": "mix", "rule.b3": 0.5},
        {"langs": ("de", "it's", 'a "b"')},
        {"langs": ()},
        {"langs": ("",)},
    ],
)
def test_what_is_typed_for_a_point_gives_its_values_back(overrides):
    point = Point(overrides, 3)
    config = configure(CONFIG, point, BLOCKS)
    flat = config | {f"rule.{key}": value for key, value in config["rule"].items()}
    assert repr({key: flat[key] for key in overrides}) == repr(overrides)
    assert config["seed"] == 3
    assert [*texts(point)] == [*overrides, "seed"]


def test_an_empty_text_is_typed_as_two_quotes():
    assert text_of("") == "''"


def test_a_space_over_an_experiment_gives_its_configs():
    rules = {
        "adam": {"optim.rule.b2": [0.95, 0.99]},
        "ademamix": {"optim.rule.b3": dict(linear=(0.9, 0.999), points=2)},
    }
    axes = {"num_steps": 150, "optim.rule.name": dict(choice=rules), "optim.decay": [0]}
    config = load("experiments/shakespeare.py:tiny")
    points = grid(read({"axes": axes, "seeds": 2}, config, SCHEMA))
    configs = [configure(config, point, SCHEMA) for point in points]
    assert len({dump(resolved) for resolved in configs}) == len(points) == 8
    assert [c["optim"]["rule"].get("b3") for c in configs] == [
        *(None,) * 4,
        *(0.9, 0.9, 0.999, 0.999),
    ]
    assert {c["num_steps"] for c in configs} == {150}
    line = r"optim.schedule.paek='0.1' is not known. Did you mean 'optim.schedule.peak'"
    with pytest.raises(ValueError, match=line):
        read({"axes": {"optim.schedule.paek": [0.1]}}, config, SCHEMA)
