"""The last comparison: what was found against what was given, with seeds of its own.

No stage has seen these seeds, so nothing that was chosen by luck has luck here. It is
one comparison in pairs of seeds, which five can carry.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from core.types import Config
from study.compare import compare
from study.outcomes import DONE
from study.point import Point, configure
from study.recipe.budget import Cost
from study.recipe.chapter import Chapter
from study.recipe.journal import Journal
from study.recipe.plan import AS_IT_IS, MOST_SEEDS, Plan
from study.verdict import Verdict
from train.schema import SCHEMA

GIVEN, RECIPE = "given", "recipe"
FEWEST_PAIRS, MOST_PAIRS = 5, 20
WHY = "What was found runs against what was given, with seeds that no stage has seen."
PAGE = "comparison.html"


class Final(NamedTuple):
    """The config that was held against the given one, and what came of it.

    It is what a stage came to, by the setting `name`. `taken` says whether the stage
    took it; else it is the greatest gain of all, which no stage could show.
    """

    config: Config
    chapter: Chapter
    name: str
    taken: bool
    finding: str
    verdict: Verdict
    seconds: float
    num_pairs: int

    @property
    def won(self) -> bool:
        """Whether it is the recipe: it passed, or the given one never survives."""
        lost, own = self.verdict.num_diverged
        return self.verdict.kind == "PASS" or (lost == self.num_pairs and not own)


def reserve(cost: Cost) -> float:
    """Seconds that are kept for it."""
    return cost.seconds([FEWEST_PAIRS, FEWEST_PAIRS])


def compared(
    journal: Journal, given: Config, chapters: Sequence[Chapter]
) -> Final | None:
    """Runs it, and writes its page; None where nothing that was tried ran at all."""
    candidate = _candidate(chapters)
    if candidate is None:
        return None
    chapter, name = candidate
    point = Point(dict(chapter.plan.settings[name]), given["seed"])
    found = configure(chapter.before, point, SCHEMA)
    plan = journal.planned("last", lambda: _plan(journal, given))
    folder = journal.place("last")
    arms = {GIVEN: given, RECIPE: found}
    outcomes = journal.carry_out(plan, arms)
    if not any(x.state == DONE for some in outcomes.values() for x in some):
        return None
    paths, out = [str(folder / name) for name in arms], str(journal.folder / PAGE)
    command = ["launch.py", "compare", *paths, f"--baseline={GIVEN}", f"--out={out}"]
    page = compare(paths, out, baseline=GIVEN, command=command)
    return Final(
        found,
        chapter,
        name,
        found == chapter.after,
        page.finding,
        page.verdicts[RECIPE],
        journal.spent[-1].seconds,
        len(plan.seeds),
    )


def _plan(journal: Journal, given: Config) -> Plan:
    """As many pairs as what is left pays for."""
    cost, pairs = journal.cost, FEWEST_PAIRS
    while pairs < MOST_PAIRS and (
        cost.seconds([pairs + 1, pairs + 1]) <= journal.left_seconds
    ):
        pairs += 1
    seeds = [given["seed"] + MOST_SEEDS + number for number in range(pairs)]
    seconds = cost.seconds([pairs, pairs])
    return Plan("last", WHY, {AS_IT_IS: {}}, seeds, seconds, [])


def _candidate(chapters: Sequence[Chapter]) -> tuple[Chapter, str] | None:
    """The last stage that took something, with that; else the greatest gain of all."""
    ended = [(x, x.choice) for x in chapters if x.choice is not None]
    taken = [(chapter, choice.best) for chapter, choice in ended if choice.taken]
    if taken:
        return taken[-1]
    gains = {
        (number, name): choice.gain(name)
        for number, (_, choice) in enumerate(ended)
        for name in choice.losses
        if name != choice.own and math.isfinite(choice.gain(name))
    }
    if not gains:
        return None
    number, name = max(gains, key=lambda place: gains[place])
    return ended[number][0], name
