"""What one stage came to, and where the next one begins."""

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


def at_edge(chapter: Chapter) -> Literal["lowest", "highest"] | None:
    """Whether the rate that was taken is the last that was tried, and on which side.

    Compared are settings that differ in their rate alone.
    """
    if chapter.choice is None or not chapter.choice.taken:
        return None
    settings = chapter.plan.settings
    best = settings[chapter.choice.best]
    alike = [x[PEAK] for x in settings.values() if _but_rate(x) == _but_rate(best)]
    if PEAK not in best or len(alike) < 2:
        return None
    if best[PEAK] == max(alike):
        return "highest"
    return "lowest" if best[PEAK] == min(alike) else None


def _but_rate(setting) -> dict[str, Any]:
    return {key: value for key, value in setting.items() if key != PEAK}
