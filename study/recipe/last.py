"""The last comparison: what was found against what was given, with seeds of its own.

No stage has seen these seeds, so nothing that was chosen by luck has luck here. It is
one comparison in pairs of seeds, which five can carry.
"""

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

    `shown` says whether a stage had taken it; else it is the best that was tried,
    though no stage could tell it from the given one.
    """

    config: Config
    shown: bool
    finding: str
    verdict: Verdict
    seconds: float
    command: Sequence[str]


def reserve(cost: Cost) -> float:
    """Seconds that are kept for it."""
    return cost.seconds([FEWEST_PAIRS, FEWEST_PAIRS])


def compared(
    journal: Journal, given: Config, chapters: Sequence[Chapter]
) -> Final | None:
    """Runs it, and writes its page; None where nothing that was tried ran at all."""
    found, shown = chapters[-1].after, True
    if found == given:
        challenger, shown = _challenger(chapters), False
        if challenger is None:
            return None
        found = challenger
    plan = journal.planned("last", lambda: _plan(journal, given))
    folder = journal.place("last")
    arms = {GIVEN: given, RECIPE: found}
    outcomes = journal.carry_out(plan, arms)
    if not any(x.state == DONE for some in outcomes.values() for x in some):
        return None
    paths, out = [str(folder / name) for name in arms], str(journal.folder / PAGE)
    command = ["launch.py", "compare", *paths, f"--baseline={GIVEN}", f"--out={out}"]
    page = compare(paths, out, baseline=GIVEN, command=command)
    seconds = journal.spent[-1].seconds
    verdict = page.verdicts[RECIPE]
    return Final(found, shown, page.finding, verdict, seconds, command)


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


def _challenger(chapters: Sequence[Chapter]) -> Config | None:
    """The config of the greatest gain that no stage could show."""
    best, gain = None, -float("inf")
    for chapter in chapters:
        if chapter.choice is None:
            continue
        for name in list(chapter.choice.losses)[1:]:
            if chapter.choice.gain(name) > gain:
                best, gain = (chapter, name), chapter.choice.gain(name)
    if best is None:
        return None
    chapter, name = best
    point = Point(dict(chapter.plan.settings[name]), chapter.before["seed"])
    return configure(chapter.before, point, SCHEMA)
