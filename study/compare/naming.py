"""What tells runs apart: the keys that differ, and the names of arms by them."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from core.refusal import listed, nearest, shown
from study.compare.runs import Run
from study.point import text_of

# Keys that change what a run writes down, not what it learns.
ASIDE = ("log_every", "checkpoint.", "measure.", "decode.")
Runs = Sequence[Run]


def differing(runs: Iterable[Run]) -> dict[str, list[Any]]:
    """The keys whose values differ, with those that there are in order of value.

    A key that some of the runs lack differs.
    """
    configs = [run.config for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    found = {}
    for key in keys:
        values = [config[key] for config in configs if key in config]
        unlike = distinct(values)
        if len(unlike) > 1 or len(values) < len(configs):
            found[key] = unlike
    return found


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each once: True is not 1 here."""
    unlike = {_unlike(value): value for value in values}
    if all(is_number(value) for value in unlike.values()):
        return sorted(unlike.values())
    return sorted(unlike.values(), key=lambda value: (str(type(value)), str(value)))


def is_number(value: Any) -> bool:
    """Whether a value has an order: no boolean has."""
    return type(value) in (int, float)


def counts(key: str) -> bool:
    """Whether a key changes what is learnt."""
    return not key.startswith(ASIDE)


class Groups(NamedTuple):
    """The runs of each arm by its name, and the keys that tell arms apart.

    No keys: each is what one path holds, and `empty` are paths without a run of their
    own that has a result.
    """

    runs: dict[str, Runs]
    keys: Sequence[str]
    empty: Sequence[str] = ()


def told_apart(runs: Runs, paths: Sequence[str], by: Sequence[str]) -> Groups:
    """The arms, in the order of paths, else of values.

    Raises:
      ValueError: a key of `by` is not in the configs, the same in all of them, or of
        those that change nothing.
    """
    unlike = {key: v for key, v in differing(runs).items() if counts(key)}
    known = {key for run in runs for key in run.config}
    for key in by:
        if key not in known:
            raise ValueError(
                f"by={shown(key)} is no key of these configs.{nearest(key, known)} "
                f"Those that differ: {listed(unlike)}."
            )
        if not counts(key):
            raise ValueError(
                f"by={shown(key)} changes what is written down, not what is learnt. "
                f"Keys that differ: {listed(unlike)}."
            )
        if key not in unlike:
            raise ValueError(
                f"by={shown(key)} is {shown(runs[0].config[key])} in all runs. Those "
                f"that differ: {listed(unlike)}."
            )
    if not by and len(paths) > 1:
        names = names_of(paths)
        parts = {n: [r for r in runs if r.source == i] for i, n in enumerate(names)}
        empty = [name for name, part in parts.items() if not part]
        return Groups({n: part for n, part in parts.items() if part}, (), empty)
    keys = list(by) or _naming(runs, unlike)
    groups = _grouped(runs, keys, told)
    apart = {tuple(map(_unlike, (run.config.get(k) for k in keys))) for run in runs}
    if len(groups) < len(apart):  # numbers that differ behind what is shown of them
        groups = _grouped(runs, keys, text_of)
    return Groups(groups, keys)


def _grouped(
    runs: Runs, keys: Sequence[str], write: Callable[[Any], str]
) -> dict[str, Runs]:
    """The runs by the name of their arm, in the order of values."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: [_order(run.config.get(k)) for k in keys]):
        groups.setdefault(_label(run, keys, write), []).append(run)
    return {**groups}


def _unlike(value: Any) -> tuple[bool, Any]:
    """What is equal for equal values alone: True is not 1 here."""
    return type(value) is bool, value


def _order(value: Any) -> tuple[bool, float, str]:
    return (True, value, "") if is_number(value) else (False, 0.0, str(value))


def _label(run: Run, keys: Sequence[str], write: Callable[[Any], str]) -> str:
    """`adam` of one key with a word, else `decay=0.1, norm=pre`."""
    if not keys:
        return "all runs"
    values = [run.config.get(key, "none") for key in keys]
    if len(keys) == 1 and isinstance(values[0], str):
        return values[0] or "none"
    return described(dict(zip(keys, values, strict=True)), write)


def described(
    values: Mapping[str, Any], write: Callable[[Any], str] | None = None
) -> str:
    """Keys and values as a reader needs them: the last two words of each key.

    >>> described({"optim.schedule.peak": 0.01, "optim.decay": 0.1, "num_steps": 400})
    'schedule.peak=0.01, optim.decay=0.1, num_steps=400'
    """
    write = told if write is None else write
    return ", ".join(f"{brief(key)}={write(v)}" for key, v in values.items())


def brief(key: str) -> str:
    """A key by its last two words.

    >>> brief("optim.rule.name"), brief("optim.rule.b2"), brief("seed")
    ('rule', 'rule.b2', 'seed')
    """
    words = key.split(".")
    return words[-2] if words[-1] == "name" else ".".join(words[-2:])


def told(value: Any) -> str:
    """A value of a config as a reader needs it."""
    return f"{value:.4g}" if isinstance(value, float) else text_of(value)


def _naming(runs: Runs, unlike: Mapping[str, list[Any]]) -> list[str]:
    """The keys with words that differ, else the one with numbers.

    A key that splits no arm any further is left out: it says the same again.
    """
    everywhere = [k for k in unlike if all(k in run.config for run in runs)]
    words = [k for k in everywhere if not all(is_number(v) for v in unlike[k])]
    words.sort(key=lambda key: not key.endswith(".name"))
    keys: list[str] = []
    for key in words:
        if len(_split(runs, [*keys, key])) > len(_split(runs, keys)):
            keys.append(key)
    if keys or len(everywhere) != 1:
        return keys
    return everywhere


def _split(runs: Runs, keys: Sequence[str]) -> set[str]:
    return {str([run.config[key] for key in keys]) for run in runs}


def names_of(paths: Sequence[str]) -> list[str]:
    """The last parts of the paths, as many as tell them apart.

    >>> names_of(["runs/adam", "runs/muon/"]), names_of(["a/run", "b/run"])
    (['adam', 'muon'], ['a/run', 'b/run'])
    """
    parts = [pathlib.Path(path).absolute().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("two paths are the same")
