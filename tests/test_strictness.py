"""launch over the real schema: 200 mutated command lines and configs.

Each is run as it was typed, or is refused in one line that names the key: none is
ignored, none ends in a traceback, and nothing is written.
"""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import launch
from core.numbers import at
from core.refusal import LIMIT
from core.registry import Range, check_value, under, wanted
from core.settings import children, complete
from core.types import Number
from train.schema import SCHEMA

NUM_CASES, SEED = 200, 2
EXPERIMENT = "experiments/localize.py"
LONG = "x" * 10_000


class Leaf(NamedTuple):
    """One key of a resolved config."""

    key: str
    value: Any
    annotation: Any
    within: Range | None
    names: tuple[str, ...] = ()  # what a block's `name` may be


class Case(NamedTuple):
    """What is typed, and what it must come to.

    `means` are values of a config that accepts it, None where it must be refused;
    `certain` where it must be accepted. `names`: one of them stands in a refusal.
    `config` is written to a file in place of the experiment; a text as it is.
    """

    words: list[str]
    means: dict[str, Any] | None
    names: list[str]
    certain: bool = False
    config: Any = None


def leaves_of(config, blocks) -> list[Leaf]:
    """Every key with its type and range."""
    found = []
    for where, block in blocks.items():
        part = at(config, where)
        entry, below = block.entry(part, where), children(blocks, where)
        if block.named:
            found.append(
                Leaf(f"{where}.name", part["name"], str, None, tuple(block.table))
            )
        for key, parameter in block.options(part, where).items():
            if key in part and key not in below:
                within = entry.ranges.get(key)
                name = under(where, key)
                found.append(Leaf(name, part[key], parameter.annotation, within))
    return found


def spelled(value: Any, rng: random.Random) -> str:
    """A value as a user may type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        plain = ",".join(map(str, value))
        return rng.choice([repr(value), plain]) if value else "()"
    if isinstance(value, float) and value.is_integer() and rng.random() < 0.5:
        return str(int(value))
    return "''" if value == "" else str(value)


def words_for(leaf: Leaf, text: str) -> list[str]:
    return [f"--config.{leaf.key}={text}"]


def refused(words, *names, config=None) -> Case:
    return Case(words, None, list(names), config=config)


# Each takes a generator, the leaves and the config; None where it has nothing to do.


def retyped(rng, leaves, config):
    leaf = rng.choice(leaves)
    words = words_for(leaf, spelled(leaf.value, rng))
    return Case(words, {leaf.key: leaf.value}, [leaf.key], certain=True)


def changed(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if not leaf.names])
    value: Any = {
        bool: not leaf.value,
        int: rng.choice([0, 1, 2, 3, 64, 10**12, -1]),
        str: rng.choice(["ä ü", "a=b", "--x", "1e3", "''"]),
    }.get(type(leaf.value))
    if type(leaf.value) is float:
        value = rng.choice([0.0, 0.5, 1e-3, 1e3, 3.0, -1.0, math.inf])
    if value is None:
        return None
    text = spelled(value, rng)
    value = "" if value == "''" else value
    return Case(words_for(leaf, text), {leaf.key: value}, [leaf.key.split(".")[-1]])


def misspelled(rng, leaves, config):
    key = rng.choice(leaves).key
    place = rng.randrange(len(key))
    typed = rng.choice(
        [
            key[:place] + key[place + 1 :],
            key[:place] + key[place] + key[place:],
            key[:place] + rng.choice("qxäß٣_- ") + key[place:],
            key.upper(),
            key + "s",
        ]
    )
    if any(leaf.key == typed for leaf in leaves) or not typed:
        return None
    return refused([f"--config.{typed}=1"], typed)


def wrong_type(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if leaf.annotation in WRONG])
    return refused(words_for(leaf, rng.choice(WRONG[leaf.annotation])), leaf.key)


WRONG = {
    int: ["1e3", "1.5", "1.0", "one", "true", "0x10", "٣", "1 000", "nan", "inf", LONG],
    Number: ["nan", "-nan", "NaN", "one", "1,5", "1e999", "0.1.2", "true", "½", LONG],
    bool: ["1", "0", "yes", "TRUE", "nan", "tru", LONG],
}


def out_of_range(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if leaf.within])
    low, high = map(float, leaf.within.interval[1:-1].split(","))
    outside = [low - 1] if math.isfinite(low) else []
    outside += [high + 1] if math.isfinite(high) else []
    outside += [low] if leaf.within.interval[0] == "(" and math.isfinite(low) else []
    if isinstance(leaf.value, tuple) or not outside:
        return None
    value = rng.choice(outside)
    value = value if type(leaf.value) is float else int(value)
    return refused(words_for(leaf, repr(value)), leaf.key)


def twice(rng, leaves, config):
    leaf = rng.choice(leaves)
    words = words_for(leaf, spelled(leaf.value, rng))
    return refused(words * 2, leaf.key)


def without_dashes(rng, leaves, config):
    leaf = rng.choice(leaves)
    word = words_for(leaf, spelled(leaf.value, rng))[0].removeprefix("--")
    return refused([rng.choice(["", "-", "\u2014", "\u2013\u2013"]) + word], leaf.key)


def without_value(rng, leaves, config):
    key = rng.choice(leaves).key
    return refused(rng.choice([[f"--config.{key}="], [f"--config.{key}", "1"]]), key)


def unknown_word(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if leaf.names])
    word = rng.choice(leaf.names)
    typed = rng.choice([word + "w", word[:-1], word.upper(), "['adam']", "ä", LONG])
    return None if typed in leaf.names else refused(words_for(leaf, typed), leaf.key)


def other_word(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if leaf.names])
    word = rng.choice(leaf.names)
    block = leaf.key.split(".")[-2]
    return Case(words_for(leaf, word), {leaf.key: word}, [leaf.key, f"{block}."])


def wrong_nesting(rng, leaves, config):
    key = rng.choice(leaves).key
    where = key.rpartition(".")[0]
    inner = [f"--config.{key}.x=1"]
    outer = [f"--config.{where}=1"] if where else inner
    prefixed = [f"--config.optim.{key}=1"]
    words = rng.choice([inner, outer, prefixed])
    return refused(words, words[0].removeprefix("--config.").partition("=")[0])


def tuple_length(rng, leaves, config):
    tuples = [leaf for leaf in leaves if isinstance(leaf.value, tuple)]
    if not tuples:
        return None
    leaf = rng.choice(tuples)
    return refused(
        words_for(leaf, rng.choice(["(", "a,,b", "('a'", "((a))"])), leaf.key
    )


def long_value(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if not leaf.names])
    means = {leaf.key: LONG} if leaf.annotation is str else None
    if isinstance(leaf.value, tuple):
        means = {leaf.key: (LONG,)}
    return Case(words_for(leaf, LONG), means, [leaf.key])


def long_key(rng, leaves, config):
    return refused([f"--config.{LONG}=1"], "xxxxx")


def wrong_flag(rng, leaves, config):
    return refused(
        *rng.choice(
            [
                (["--dry-run"], "--dry-run"),  # it is there already
                (["--profile=1"], "--profile"),
                (["--workdri=a"], "--workdri"),
                (["--workdir=a", "--workdir=b"], "--workdir"),
                (["--allow-drift"], "--allow-drift"),
                (["--split=test"], "--split"),
                (["extra"], "extra"),
                ([""], "''"),
                (["--"], "--"),
                (["--config.=1"], "--config."),
                (["--config=x.py"], "--config"),
            ]
        )
    )


def edited_config(rng, leaves, config):
    leaf = rng.choice([leaf for leaf in leaves if not leaf.names])
    edited = copy.deepcopy(config)
    where, _, key = leaf.key.rpartition(".")
    part = at(edited, where)
    wrong: list[Any] = [None, {}, {"name": "x"}, [[1]], [None], LONG]
    wrong += [] if type(leaf.value) is bool else [True]
    if leaf.annotation is str:
        wrong.remove(LONG)
    if rng.random() < 0.3:
        part[key + "q"] = part.pop(key)
    else:
        part[key] = rng.choice(wrong)
    return refused([], leaf.key, config=edited)


def edited_block(rng, leaves, config):
    edited = copy.deepcopy(config)
    name = rng.choice([key for key in edited if isinstance(edited[key], dict)])
    edited[name] = rng.choice([None, 3, "adam", [edited[name]], [], {"x": 1}])
    return refused([], name, config=edited)


def broken_json(rng, leaves, config):
    text = json.dumps(config)
    key = rng.choice(["seed", "num_steps"])
    return refused(
        [],
        "config.json",
        config=rng.choice(
            [
                text[: rng.randrange(len(text))],
                text.replace(f'"{key}":', f'"{key}": NaN, "x":'),
                text.replace(f'"{key}":', f'"{key}": 1, "{key}":'),
                "[" * 100_000,
                "\udcff",
                "3",
            ]
        ),
    )


def wrong_option(rng, leaves, config):
    options = rng.choice(["tny", "tiny,tiny", "tiny=1", "tiny,", "TINY", LONG])
    words = [f"--config={EXPERIMENT}:{options}"]
    return refused(words, options[:20], "tiny", "''")


MUTATIONS: list[Callable] = [
    *(retyped, changed, misspelled, wrong_type, out_of_range, twice),
    *(without_dashes, without_value, unknown_word, other_word, wrong_nesting),
    *(tuple_length, long_value, long_key, wrong_flag, edited_config, edited_block),
    *(broken_json, wrong_option),
]


def cases(config, blocks) -> list[Case]:
    """The kinds in turn, so that none is missed."""
    rng, leaves, found = random.Random(SEED), leaves_of(config, blocks), []
    turn = 0
    while len(found) < NUM_CASES:
        case = MUTATIONS[turn % len(MUTATIONS)](rng, leaves, config)
        found += [case] if case is not None else []
        turn += 1
    return found


def number(text: str) -> float:
    return math.inf if text == "1e999" else float(text)


def judge(case: Case, code: int, out: str, err: str) -> str:
    """What is wrong with an answer; nothing, if nothing is."""
    if code == 0:
        if case.means is None:
            return "accepted"
        got = json.loads(out, parse_float=number)
        for key, value in case.means.items():
            where, _, leaf = key.rpartition(".")
            value = list(value) if isinstance(value, tuple) else value
            if repr(at(got, where)[leaf]) != repr(value):
                return f"{key} became {at(got, where)[leaf]!r}"
        return ""
    if case.certain:
        return "refused"
    line = err.removesuffix("\n")
    if code != 2 or out or "\n" in line or not 0 < len(line) <= LIMIT:
        return f"code {code} and {len(line)} characters"
    whole = repr(line)  # as are keys that a line shows escaped
    if not any(name[:24] in line or repr(name)[1:24] in whole for name in case.names):
        return "no key is named"
    return ""


def test_every_default_is_a_value_that_its_key_may_have():
    for where, block in SCHEMA.items():
        for name in block.table if block.named else [""]:
            within = block.entry({"name": name}, where).ranges
            takes = block.options({"name": name}, where)
            assert set(within) <= set(takes)
            for key in set(takes) - set(children(SCHEMA, where)):
                kind, default = takes[key].annotation, takes[key].default
                wanted(kind)  # each is of a type that a config can state
                if default is not takes[key].empty:
                    check_value(key, default, kind, within.get(key))


def test_what_is_typed_is_run_or_refused_in_one_line(tmp_path, capsys):
    config = complete(launch.load(f"{EXPERIMENT}:tiny"), SCHEMA)
    file, workdir, wrong = tmp_path / "config.json", tmp_path / "run", []
    for case in cases(config, SCHEMA):
        words = [*case.words, f"--workdir={workdir}", "--dry-run"]
        if case.config is not None:
            text = case.config
            text = text if isinstance(text, str) else json.dumps(text)
            text = text.replace("Infinity", "1e999")
            file.write_bytes(text.encode(errors="surrogateescape"))
            words.insert(0, f"--config={file}")
        elif not words[0].startswith("--config=exp"):
            words.insert(0, f"--config={EXPERIMENT}:tiny")
        code = launch.main(["train", *words])
        out, err = capsys.readouterr()
        problem = judge(case, code, out, err)
        if problem:
            wrong.append((problem, [word[:60] for word in case.words], err[:LIMIT]))
        assert not workdir.exists()
    assert not wrong, "\n".join(map(str, wrong))
