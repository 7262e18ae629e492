"""From what an experiment states to the resolved config: complete, checked, plain.

A config is nested dicts; `blocks` says of each dotted path which builders may stand
there. The resolved config holds every key of every builder, in the builders' order,
so the same settings are the same JSON, whoever stated them and how.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from core.refusal import shown
from core.registry import Block, check, check_keys, under
from core.types import Config

Blocks = Mapping[str, Block]


def complete(config: Config, blocks: Blocks) -> dict[str, Any]:
    """`config` with its builders' defaults where it is silent, as new nested dicts.

    What has no default stays out. A block that is left out is one of defaults only.

    Raises:
      ValueError: a key that no builder takes, or a name that is not known.

    >>> from core.registry import Entry
    >>> complete({}, {"": Block(Entry(lambda *, seed=0: seed, ""))})
    {'seed': 0}
    """

    def block(where: str, config: Config) -> dict[str, Any]:
        if not isinstance(config, Mapping):
            raise ValueError(f"{where}={shown(config)} must be a block of keys.")
        below = children(blocks, where)
        full = filled(config, blocks[where], where, below)
        return full | {
            key: block(under(where, key), config.get(key, {})) for key in below
        }

    return block("", config)


def filled(
    config: Config, block: Block, where: str, below: Collection[str] = ()
) -> dict[str, Any]:
    """One block with its builder's defaults; without the blocks `below` it.

    Raises:
      ValueError: a key that the builder does not take, or a name that is not known.
    """
    check_keys(config, block, where, below)
    full = {"name": block.name(config)} if block.named else {}
    for key, parameter in block.options(config, where).items():
        if key in below:
            continue
        if key in config:
            full[key] = config[key]
        elif parameter.default is not parameter.empty:
            full[key] = parameter.default
    return full


def check_all(config: Config, blocks: Blocks) -> None:
    """Holds a complete config against every block.

    Raises:
      ValueError: one line that names the key, its value and what is allowed.
    """
    for where, part in parts(config, blocks).items():
        check(part, blocks[where], where, children(blocks, where))


def parts(config: Config, blocks: Blocks) -> dict[str, Config]:
    """The config's dicts by dotted path, the outer before the inner.

    Raises:
      ValueError: a block is missing, or is no block.
    """
    found = {}
    for where in sorted(blocks, key=lambda where: (where.count("."), where)):
        part = config
        for key in filter(None, where.split(".")):
            if key not in part:
                raise ValueError(f"{where} is missing; it is a block of keys.")
            part = part[key]
            if not isinstance(part, Mapping):
                raise ValueError(f"{where}={shown(part)} must be a block of keys.")
        found[where] = part
    return found


def children(blocks: Blocks, where: str) -> list[str]:
    """The keys of the block at `where` that are blocks themselves, in their order."""
    paths = (path.rpartition(".") for path in blocks if path)
    return [key for parent, _, key in paths if parent == where]


def dump(config: Config, indent: str = "") -> str:
    """`config` as JSON: floats to the last bit, infinity as the number 1e999.

    Every reader of doubles takes 1e999 for infinity, where a bare `Infinity` is no JSON
    and a text "inf" no number.

    >>> print(dump({"a": {"b": (1, math.inf)}, "c": 0.1}))
    {
      "a": {
        "b": [1, 1e999]
      },
      "c": 0.1
    }
    """
    if isinstance(config, Mapping):
        inner = indent + "  "
        lines = [f"{inner}{json.dumps(k)}: {dump(v, inner)}" for k, v in config.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"
    if isinstance(config, tuple):
        return f"[{', '.join(map(dump, config))}]"
    if isinstance(config, float) and math.isinf(config):
        return "1e999" if config > 0 else "-1e999"
    return json.dumps(config, allow_nan=False)


def load(path: str | Path) -> dict[str, Any]:
    """The config that `dump` wrote to a file; its arrays are tuples again.

    Raises:
      ValueError: the file holds no JSON object, or a key twice.
      OSError: it cannot be read.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{path}: the key {shown(key)} is there twice.")
        return {key: _tuples(value) for key, value in pairs}

    def constant(word: str):
        raise ValueError(f"{path}: {word} is no JSON; infinity is written 1e999.")

    try:
        text = Path(path).read_text(encoding="utf-8")
        config = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{path}, {place}: no JSON ({error.msg}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 at byte {error.start}.") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply for a config.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: holds {shown(config)}, not a JSON object.")
    return config


def _tuples(value: Any) -> Any:
    """Lists as tuples, at every depth."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
