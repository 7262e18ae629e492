"""core/overrides and core/settings: texts to values, and values to JSON and back."""

import json
import math
from typing import Literal

import pytest

from core.overrides import read
from core.refusal import LIMIT
from core.settings import dump, load
from core.types import Number


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("1e-3", Number, 0.001),
        ("1", Number, 1.0),
        ("-2_000.5", float, -2000.5),
        ("inf", Number, math.inf),
        ("-inf", Number, -math.inf),
        (".5", Number, 0.5),
        ("0e9", Number, 0.0),
        ("12", int, 12),
        ("-1_000", int, -1000),
        ("true", bool, True),
        ("False", bool, False),
        ("1e3", str, "1e3"),
        ("a=b", str, "a=b"),
        ("''", str, ""),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("('a', 'b')", tuple[str, ...], ("a", "b")),
        ("('a,b',)", tuple[str, ...], ("a,b",)),
        ("(de, fr)", tuple[str, ...], ("de", "fr")),
        ("de", tuple[str, ...], ("de",)),
        ("()", tuple[str, ...], ()),
        ("1,2", tuple[int, ...], (1, 2)),
        ("0.1,1", tuple[Number, Number], (0.1, 1.0)),
    ],
)
def test_a_text_is_read_as_the_type_of_its_key(text, kind, value):
    got = read("key", text, kind)
    assert got == value
    assert repr(got) == repr(value)  # 1.0 and 1 and True are equal


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1e3", int),
        ("1.5", int),
        ("1.0", int),
        (" 1", int),
        ("٣", int),
        ("0x10", int),
        ("9" * 5_000, int),
        ("nan", Number),
        ("-NaN", float),
        ("infinity", Number),
        ("1e400", Number),
        ("1e-400", Number),
        ("1,5", Number),
        ("true", Number),
        ("9" * 5_000 + "x", Number),
        ("yes", bool),
        ("1", bool),
        ("c", Literal["a", "b"]),
        ("(a,b", tuple[str, ...]),
        ("a,,b", tuple[str, ...]),
        ("a, ,b", tuple[str, ...]),
        ("'a''b'", tuple[str, ...]),
        ("((a,b))", tuple[str, ...]),
        ("1,x", tuple[int, ...]),
        ("'1','2'", tuple[int, ...]),
        ("0.1", tuple[Number, Number]),
        ("0.1,0.2,0.3", tuple[Number, Number]),
        ("a" + " " * 10_000 + "(", tuple[str, ...]),
    ],
)
def test_a_text_that_spells_no_such_value_is_refused(text, kind):
    with pytest.raises(ValueError, match=r"^key=.* (must be|is not known)") as refused:
        read("key", text, kind)
    assert len(str(refused.value)) <= LIMIT


def test_json_gives_back_every_bit_and_type(tmp_path):
    config = {
        "a": {
            "x": 0.1 + 0.2,
            "y": math.inf,
            "z": -math.inf,
            "tiny": 5e-324,
            "one": 1.0,
        },
        "b": {"t": ("a", "b"), "nested": ((1, 2.0), ()), "on": True, "n": 1},
        "empty": {},
        "text": 'Ü "quoted" Infinity\n\u202f€',
    }
    path = tmp_path / "config.json"
    path.write_text(dump(config), encoding="utf-8")
    assert load(path) == config
    assert repr(load(path)) == repr(config)

    def refuse(word):
        raise AssertionError(word)

    json.loads(dump(config), parse_constant=refuse)  # no Infinity, which is no JSON


def test_nan_has_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump({"a": math.nan})


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"a": 1', "config.json, line 1, column 8: no JSON"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": Infinity}', "Infinity is no JSON"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
        (b"[1]", "holds .*not a JSON object"),
        (b'{"a": "\xff"}', "config.json: no UTF-8 at byte 7"),
        (b'{"a":' * 100_000, "config.json: nested too deeply"),
        (b"", "config.json, line 1, column 1: no JSON"),
    ],
)
def test_a_file_that_is_no_config_is_one_line_with_its_name(tmp_path, content, line):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=line):
        load(tmp_path / "config.json")
