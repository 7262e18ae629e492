"""The catalogue of techniques: what the registries and the builders' signatures say."""

import inspect
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from core.refusal import nearest, shown
from core.registry import Block, Entry, Note
from optim import make
from train.schema import SCHEMA

# A model of scanned layers, for the state that an optimizer keeps.
MODEL = {
    "embed": (4096, 256),
    "layers": {
        "attention": {"query": (4, 256, 4, 64), "out": (4, 4, 64, 256)},
        "mlp": {"in": (4, 256, 1024), "out": (4, 1024, 256)},
        "norm": {"scale": (4, 256)},
    },
}


class Technique(NamedTuple):
    """One line of the catalogue.

    `state_bytes` are those that an optimizer keeps for a float32 parameter of MODEL,
    None where it is no part of an optimizer.
    """

    where: str
    name: str
    source: str
    provider: str
    numbers: str
    state_bytes: float | None
    cost: str
    proof: str


def techniques(family: str = "") -> list[Technique]:
    """Those of a family, which is the head of a config's path; of all without one.

    Raises:
      ValueError: there is no such family.
    """
    families = sorted({where.partition(".")[0] for where in SCHEMA if where})
    if family and family not in families:
        raise ValueError(
            f"--family={shown(family)} is not known.{nearest(family, families)} "
            f"Known: {families}."
        )
    found = (line for where in SCHEMA for line in _lines(where, SCHEMA[where]))
    return [line for line in found if family in ("", line.where.partition(".")[0])]


def _lines(where: str, block: Block) -> Iterator[Technique]:
    if where.endswith("_schedule"):
        return  # the same shapes as those of the rate
    head, _, tail = where.rpartition(".")
    alone = isinstance(block.table, Entry)
    table = {tail: block.table} if isinstance(block.table, Entry) else block.table
    told: set[str] = set()  # of words that several entries share
    for name, entry in table.items():
        if entry.note.proof:
            takes = block.options({"name": name}, where)
            numbers = "; ".join(_number(k, p, entry) for k, p in takes.items())
            place = head if alone else where
            yield _technique(place, name, entry.source, entry.note, numbers, entry)
        for word, note in entry.words.items():
            if word in told:
                continue
            told.add(word)
            parameter = inspect.signature(entry.build, eval_str=True).parameters[word]
            number = _number(word, parameter, entry)
            yield _technique(where, word, note.source, note, number, entry)


def _technique(where, name, source, note: Note, numbers, entry: Entry) -> Technique:
    return Technique(
        where=where,
        name=name,
        source=source,
        provider=note.provider or _file(entry),
        numbers=numbers,
        state_bytes=_state_bytes(where, name, entry),
        cost=note.cost,
        proof=note.proof,
    )


def _file(entry: Entry) -> str:
    """Of the builder, from the root."""
    return entry.build.__module__.replace(".", "/") + ".py"


def _number(key: str, parameter: inspect.Parameter, entry: Entry) -> str:
    """`b1=0.9 in [0, 1)`."""
    plain = isinstance(parameter.default, bool | int | float | str | tuple)
    text = f"{key}={parameter.default}" if plain else key
    within = entry.ranges.get(key)
    if within is None:
        return text
    return f"{text} in {within.interval.replace('2147483647]', '2^31)')}"


_ON = {bool: True, Literal["decoupled", "independent", "cautious"]: "cautious"}


def _state_bytes(where: str, name: str, entry: Entry) -> float | None:
    """What an optimizer with nothing but this keeps, for each parameter of MODEL."""
    head, _, tail = where.partition(".")
    if head != "optim" or tail == "schedule" or name.endswith("_schedule"):
        return None
    options: dict[str, Any] = {"rule": {"name": "gradient_descent"}}
    parameters = inspect.signature(entry.build, eval_str=True).parameters
    if tail in ("rule", "outer", "average"):
        needed = {
            key: 1 if parameter.annotation is int else 0.5
            for key, parameter in parameters.items()
            if parameter.default is parameter.empty and key != "tx"
        }
        options[tail] = {"name": name} | needed
    elif name in parameters:
        word = {name: _ON.get(parameters[name].annotation, 0.5)}
        options |= {tail: word} if tail else word
    else:
        return None
    schedule = dict(name="constant", peak=1.0, warmup_steps=0)

    def state(params):
        return make(schedule=schedule, num_steps=1, **options)[0].init(params)

    params = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        MODEL,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    kept = jax.eval_shape(state, params)
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)]
    return sum(sizes) / sum(leaf.size for leaf in jax.tree.leaves(params))


def as_text(found: list[Technique]) -> str:
    """For a terminal: three lines a technique."""
    blocks = []
    for t in found:
        lines = [f"{t.where}.{t.name}: {t.source}", f"    {_facts(t)}"]
        lines += [f"    {t.numbers}"] if t.numbers else []
        blocks.append("\n".join([*lines, f"    proved by {t.proof}"]))
    return "".join(f"{block}\n" for block in blocks)


def as_markdown(found: list[Technique]) -> str:
    """The page `docs/techniques.md`: a table for each place of the config."""
    tables = []
    for where in dict.fromkeys(t.where for t in found):
        rows = [_row(t) for t in found if t.where == where]
        head = "| | source | provider | numbers | state, bytes | cost | proof |"
        tables.append(f"## `{where}`\n\n{head}\n|---|---|---|---|---|---|---|\n")
        tables[-1] += "\n".join(rows)
    return PAGE + "\n\n".join(tables) + "\n"


PAGE = """# Techniques

Written by `python launch.py techniques --markdown`; do not edit.

Every technique is a word of the config: `config.optim.rule.name = "lion"`,
`config.optim.cautious = True`. Numbers stand with their defaults and where they may
lie; they are inputs of the compiled program. State is what an optimizer keeps for a
float32 parameter of a model with scanned layers and embeddings, gradients and
parameters not counted. A provider that is a file is this repository's own.

"""


def _facts(t: Technique) -> str:
    facts = [t.provider]
    if t.state_bytes is not None:
        facts.append(f"{t.state_bytes:.3g} bytes of state a parameter")
    return ", ".join(facts + ([t.cost] if t.cost else []))


def _row(t: Technique) -> str:
    state = "" if t.state_bytes is None else f"{t.state_bytes:.3g}"
    cells = (
        f"`{t.name}`",
        t.source,
        f"`{t.provider}`",
        t.numbers,
        state,
        t.cost,
        f"`{t.proof}`",
    )
    return f"| {' | '.join(cells)} |"
