"""What a stage is to try with what is left of the budget; written before it begins.

    NUMBER-NAME/plan.json     what is tried, and from which config on
    NUMBER-NAME/spent.json    what it took, once it has ended
    NUMBER-NAME/...           an ordinary sweep

So a search that is killed takes the same plan again, and a stage that has ended stands.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from core.settings import dump, load
from core.types import Config
from study import sweep
from study.compare.naming import described
from study.groups import grouped
from study.point import Point
from study.recipe.budget import Cost, told
from study.recipe.stages import Settings
from train.logs import write_bytes

MOST_SEEDS, FEWEST_SEEDS = 5, 3  # of a setting: two have hardly an interval
AS_IT_IS = "as it is"
PLAN = "plan.json"


class Plan(NamedTuple):
    """What one stage tries: overrides by what they are called, the config's own first.

    Without settings the stage is left out. `left_out` are lines on what there is no
    room for, or what the config does not take; `seconds` are expected.
    """

    name: str
    why: str
    settings: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    seconds: float
    left_out: Sequence[str]

    @property
    def stated(self) -> dict[str, Any]:
        """The space of its sweep."""
        return {"axes": {"setting": {"blocks": self.settings}}, "seeds": [*self.seeds]}


class Room(NamedTuple):
    """Seconds: a stage's share, and what it may have if its least needs more."""

    share: float
    most: float


def fitted(
    name: str,
    why: str,
    blocks: Sequence[Settings],
    config: Config,
    room: Room,
    cost: Cost,
) -> Plan:
    """The most of a stage that its share pays for: first seeds go, then settings."""
    blocks, refused = _taken(blocks, config)
    if len(blocks) < 2:
        return _out(name, why, ["there is nothing to try with this config", *refused])
    tries = [(len(blocks), seeds) for seeds in range(MOST_SEEDS, FEWEST_SEEDS, -1)]
    tries += [(length, FEWEST_SEEDS) for length in range(len(blocks), 1, -1)]
    seconds = 0.0
    for length, count in tries:
        settings = [setting for block in blocks[:length] for setting in block]
        seconds = cost.seconds(programs(config, settings, count))
        least = (length, count) == tries[-1]
        if seconds <= (room.most if least else room.share):
            over = [called(x) for block in blocks[length:] for x in block]
            lines = [f"no room for {'; '.join(over)}"] if over else []
            named = {called(setting): setting for setting in settings}
            seeds = [config["seed"] + number for number in range(count)]
            return Plan(name, why, named, seeds, seconds, [*lines, *refused])
    lack = f"its least takes {told(seconds)}, and {told(max(room.most, 0))} are free"
    return _out(name, why, [lack, *refused])


def _out(name: str, why: str, reasons: list[str]) -> Plan:
    return Plan(name, why, {}, [], 0.0, reasons)


def least_seconds(blocks: Sequence[Settings], config: Config, cost: Cost) -> float:
    """What the least of a stage takes."""
    settings = [setting for block in blocks[:2] for setting in block]
    return cost.seconds(programs(config, settings, FEWEST_SEEDS))


def programs(
    config: Config, settings: Sequence[Mapping[str, Any]], num_seeds: int
) -> list[int]:
    """How many trials each of their programs has."""
    configs = [
        sweep.configured(config, Point(dict(x), config["seed"])) for x in settings
    ]
    return [num_seeds * len(group.trials) for group in grouped(configs)]


def called(setting: Mapping[str, Any]) -> str:
    """A setting in words; the numbers of a rule go without saying.

    >>> called({"optim.rule.name": "lion", "optim.rule.b2": 0.99})
    'rule=lion'
    """
    short = {
        key: value
        for key, value in setting.items()
        if not key.startswith("optim.rule.") or key.endswith(".name")
    }
    return described(short) or AS_IT_IS


def write(folder: pathlib.Path, plan: Plan) -> None:
    """Notes what a stage is about to do."""
    folder.mkdir(parents=True, exist_ok=True)
    known = plan._asdict() | {"seeds": (*plan.seeds,), "left_out": (*plan.left_out,)}
    write_bytes(folder / PLAN, dump(known).encode() + b"\n")


def read(folder: pathlib.Path) -> Plan | None:
    """The plan that was noted, if one was."""
    path = folder / PLAN
    return Plan(**load(path)) if path.is_file() else None


def _taken(
    blocks: Sequence[Settings], config: Config
) -> tuple[list[Settings], list[str]]:
    """The blocks without what the config refuses, and why it does."""
    kept, refused = [], []
    for block in blocks:
        good = []
        for setting in block:
            try:
                sweep.configured(config, Point(setting, config["seed"]))
                good.append(setting)
            except ValueError as error:
                refused.append(f"{called(setting)} is not taken: {error}")
        if good:
            kept.append(good)
    return kept, refused
