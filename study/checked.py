"""A space held against the config that it changes: its keys, types and ranges."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from core.numbers import at
from core.overrides import resolve
from core.refusal import short, shown
from core.registry import Range, check_value
from core.settings import Blocks
from core.types import Config, Number
from study.point import text_of
from study.space import Axis, Branch, Options, Space, Span, Values, join, steps
from study.stated import branch, refuse_unknown

Leaf = tuple[dict[str, Any], list[Axis]]


def read(stated: Any, config: Config, blocks: Blocks) -> Space:
    """The space that `sweep()` returned, held against the config that it changes.

    Raises:
      ValueError: one line that names the key, its value and what is allowed.
    """
    if not isinstance(stated, Mapping):
        raise ValueError(
            f"sweep() returned {shown(stated)}; it must be dict(axes={{...}}, seeds=1)."
        )
    refuse_unknown("sweep()", stated, ("axes", "seeds"))
    if not isinstance(stated.get("axes"), Mapping) or not stated["axes"]:
        raise ValueError(
            f"sweep(): axes={shown(stated.get('axes'))} must be a dict from key to "
            "values, such as {'optim.decay': [0.0, 0.1]}."
        )
    full = resolve(config, {}, blocks)[0]
    root, found = branch(stated["axes"]), _Found({}, {})
    for fixed, axes in _covering(root):
        found.look(fixed, axes, full, blocks)
    root = _typed(root, found.kinds)
    seeds = _seeds(stated.get("seeds", 1), full["seed"])
    return Space(root, seeds, found.ranges)


def _seeds(stated: Any, first: int) -> tuple[int, ...]:
    """A count of them from the config's on, or those listed."""
    seeds = stated if isinstance(stated, list) else []
    if type(stated) is int:
        seeds = [*range(first, first + stated)]
    if not seeds or any(type(seed) is not int for seed in seeds):
        raise ValueError(
            f"sweep(): seeds={shown(stated)} must be a count such as 5, or a list of "
            "integers such as [0, 1, 2]."
        )
    for seed in seeds:
        check_value("seeds", seed, int, Range("[0, 4294967296)"))
        if seeds.count(seed) > 1:
            raise ValueError(f"sweep(): seeds={shown(stated)} has {seed} twice.")
    return tuple(seeds)


class _Found(NamedTuple):
    """The annotations and ranges of the keys that were looked up."""

    kinds: dict[str, Any]
    ranges: dict[str, Range]

    def look(self, fixed: Mapping[str, Any], axes, full: Config, blocks: Blocks):
        """Checks every value that is there with what is `fixed`."""
        config = resolve(full, {k: text_of(v) for k, v in fixed.items()}, blocks)[0]
        values: dict[str, tuple] = {key: (value,) for key, value in fixed.items()}
        for axis in axes:
            span = axis.domain
            values[axis.key] = span[:2] if isinstance(span, Span) else span.values
        for key, tried in values.items():
            kind, within = _entry(config, key, tried[0], blocks)
            for value in tried:
                check_value(key, _as(value, kind), kind, within)
            self.kinds[key] = kind
            if within is not None:
                self.ranges[key] = within


def _entry(
    config: Config, key: str, value: Any, blocks: Blocks
) -> tuple[Any, Range | None]:
    """Annotation and range of a key, which is refused where there is none."""
    where, _, leaf = key.rpartition(".")
    if where in blocks and key not in blocks:
        block, part = blocks[where], at(config, where)
        if leaf == "name" and block.named:
            return str, None
        if leaf in (takes := block.options(part, where)):
            return takes[leaf].annotation, block.entry(part, where).ranges.get(leaf)
    resolve(config, {key: text_of(value)}, blocks)
    raise AssertionError(key)


def _as(value: Any, kind: Any) -> Any:
    """An int where a float is wanted is that float."""
    return float(value) if type(value) is int and kind in (Number, float) else value


def _typed(part: Branch, kinds: Mapping[str, Any]) -> Branch:
    """The branch with every value of the type of its key."""

    def typed(axis: Axis) -> Axis:
        kind, domain = kinds.get(axis.key), axis.domain
        if isinstance(domain, Options):
            words = {word: _typed(under, kinds) for word, under in domain.words.items()}
            return axis._replace(domain=Options(words))
        if isinstance(domain, Values):
            values = tuple(_as(value, kind) for value in domain.values)
            return axis._replace(domain=Values(values))
        low, high = _as(domain.low, kind), _as(domain.high, kind)
        span = domain._replace(low=low, high=high)
        if span.points:
            _distinct(axis, span)
        return axis._replace(domain=span)

    fixed = {key: _as(value, kinds[key]) for key, value in part.fixed.items()}
    return Branch(fixed, tuple(map(typed, part.axes)))


def _distinct(axis: Axis, span: Span) -> None:
    """Raises ValueError where points of whole numbers fall together."""
    tried = steps(span)
    for value, after in itertools.pairwise(tried):
        if value == after:
            raise ValueError(
                f"sweep(): {axis.key}: {span.points} points from {span.low} to "
                f"{span.high} have {value} twice, for they are whole."
            )


def _covering(part: Branch) -> list[Leaf]:
    """Ways to decide the choices so that every word is in one: (fixed, axes left).

    Of choices beside each other, all but one are at their first word. (All ways would
    be too many to check; what two words do together, a point's own check finds.)
    """
    plain = [axis for axis in part.axes if not isinstance(axis.domain, Options)]
    ways = [
        [leaf for under in axis.domain.words.values() for leaf in _covering(under)]
        for axis in part.axes
        if isinstance(axis.domain, Options)
    ]
    first = [leaves[0] for leaves in ways]
    chosen = [first] + [
        [*first[:n], leaf, *first[n + 1 :]]
        for n, leaves in enumerate(ways)
        for leaf in leaves[1:]
    ]
    return [_together(part.fixed, plain, leaves) for leaves in chosen]


def _together(fixed: Mapping[str, Any], plain: list[Axis], leaves: list[Leaf]) -> Leaf:
    together, axes = dict(fixed), [*plain]
    for also, more in leaves:
        join(together, also)
        axes += more
    keys = [*together, *(axis.key for axis in axes)]
    for axis in axes:
        if keys.count(axis.key) > 1:
            raise ValueError(f"sweep(): {short(axis.key)} is set twice in a point.")
    return together, axes
