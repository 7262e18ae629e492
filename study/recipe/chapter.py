"""What one stage came to, and where the next one begins."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from core.types import Config
from study.recipe.judge import Choice
from study.recipe.plan import Plan
from study.recipe.stages import PEAK


class Chapter(NamedTuple):
    """A stage that has ended; without a choice it was left out."""

    plan: Plan
    choice: Choice | None
    seconds: float
    before: Config
    after: Config


def at_edge(plan: Plan, name: str) -> Literal["lowest", "highest"] | None:
    """Whether the rate of a setting is the last that was tried, and on which side.

    Compared are settings that differ in their rate alone.
    """
    own = plan.settings[name]
    if PEAK not in own:
        return None
    alike = [x[PEAK] for x in plan.settings.values() if _but_rate(x) == _but_rate(own)]
    if len(alike) < 2 or min(alike) < own[PEAK] < max(alike):
        return None
    return "highest" if own[PEAK] == max(alike) else "lowest"


def _but_rate(setting: Mapping[str, Any]) -> dict[str, Any]:
    """What else a setting has; of one without a rate, something no other has."""
    if PEAK not in setting:
        return {PEAK: None}
    return {key: value for key, value in setting.items() if key != PEAK}
