"""A recipe for the user's own data: a budget, spent on a search in stages.

Each stage begins from the best config so far and tries one kind of change, as an
ordinary sweep; what is better by more than seeds explain is taken. A part of the budget
is kept for the end: there the config that was found runs against the given one with
seeds that no stage has seen, and only if it wins it is the recipe.

    WORKDIR/asked.json          what was asked
    WORKDIR/NUMBER-NAME/        the stages
    WORKDIR/recipe.json         the config, for train
    WORKDIR/recipe.md           what was tried and why, and what to try next
    WORKDIR/comparison.html     found against given
"""

import pathlib
from collections.abc import Callable, Sequence

from core.refusal import shown
from core.types import Config
from data.prepare import prepare
from study import sweep
from study.point import Point, configure
from study.recipe import last, report
from study.recipe.budget import seconds_of, told
from study.recipe.chapter import Chapter, at_edge
from study.recipe.journal import Journal
from study.recipe.judge import choose
from study.recipe.plan import AS_IT_IS, Plan, Room, called, fitted, least_seconds
from study.recipe.stages import STAGES, Settings, Stage, beyond, rates
from train.folder import locked
from train.schema import SCHEMA
from train.xla_cache import use_compilation_cache

WIDENINGS = 2  # of a stage, beyond a best rate at the edge
PILOT = "A run on each device measures what a trial costs."


def run(
    config: Config,
    budget: str,
    workdir: str | pathlib.Path,
    *,
    command: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> report.Recipe:
    """Searches with a budget of wall time from a resolved config on, or goes on.

    The budget begins once the data are prepared. `say` gets a line as a stage begins.

    Raises:
      ValueError: config, budget or folder, in one line; or the budget is too small,
        which is known after one run.
      Stop: asked to leave, or the disk is full; the same call goes on.
    """
    budget_seconds = seconds_of(budget)
    use_compilation_cache()
    check(config)
    if "validation" not in prepare(config).rows:
        raise ValueError("The data have no validation split, whose loss ranks recipes.")
    folder = pathlib.Path(workdir)
    with locked(folder):
        journal = Journal(folder, config, budget_seconds, command, say)
        _pilot(journal, config)
        chapters = _search(journal, config)
        final = last.compared(journal, config, chapters)
        return report.write(journal, config, chapters, final)


def check(config: Config) -> None:
    """Refuses a config of which no recipe can be found.

    Raises:
      ValueError: one line.
    """
    if not config["num_steps"]:
        raise ValueError(
            f"num_steps={config['num_steps']} must be above 0: the trials of a recipe "
            "have as many steps. Set it, and num_tokens and num_epochs to 0."
        )
    if config["evaluate"]["patience"]:
        raise ValueError(
            f"evaluate.patience={config['evaluate']['patience']} ends trials in the "
            "middle of their schedule; a recipe needs evaluate.patience=0."
        )
    schedule = config["optim"]["schedule"]
    if "peak" not in schedule:
        raise ValueError(
            f"optim.schedule.name={shown(schedule['name'])} has no peak, from which "
            "the search begins; take another, such as 'cosine'."
        )
    sweep.configured(config, Point({}, config["seed"]))


def planned(config: Config) -> list[str]:
    """The stages as they would be from this config on, with all their settings.

    Raises:
      ValueError: one line.
    """
    check(config)
    lines = []
    for stage in STAGES:
        lines.append(f"{stage.name}: {stage.why}")
        blocks = stage.blocks(config)
        lines += [f"  {called(setting)}" for block in blocks for setting in block]
    return lines


def _pilot(journal: Journal, config: Config) -> None:
    """A trial on each device; refuses a budget that is too small for the rest."""
    seeds = [config["seed"] + number for number in range(journal.num_devices)]
    plan = Plan("pilot", PILOT, {AS_IT_IS: {}}, seeds, 0.0, [])
    journal.carry_out(plan, {"": config})
    least = journal.seconds + last.reserve(journal.cost)
    least += least_seconds(rates(config), config, journal.cost)
    if least > journal.budget_seconds:
        raise ValueError(
            f"--budget={told(journal.budget_seconds)} is too small: a pilot, the least "
            f"of the first stage and the last comparison take --budget={told(least)}."
        )
    journal.accept()


def _search(journal: Journal, config: Config) -> list[Chapter]:
    """All stages, each from where the one before has come to."""
    chapters: list[Chapter] = []
    for number, stage in enumerate(STAGES):
        share = stage.share / sum(other.share for other in STAGES[number:])
        blocks, name = stage.blocks(config), stage.name
        for _ in range(1 + WIDENINGS * stage.widened):
            chapter = _chapter(journal, stage, name, blocks, config, share)
            chapters.append(chapter)
            config, choice = chapter.after, chapter.choice
            if choice is None or not choice.taken:
                break
            edge = at_edge(chapter.plan, choice.best)
            if edge is None:
                break
            blocks, name = beyond(config, edge == "highest"), f"{stage.name}-wider"
    return chapters


def _chapter(
    journal: Journal,
    stage: Stage,
    name: str,
    blocks: Sequence[Settings],
    config: Config,
    share: float,
) -> Chapter:
    """One stage, or its widening."""
    cost = journal.cost
    most = journal.left_seconds - last.reserve(cost)
    room = Room(share * most, most)
    plan = journal.planned(
        name, lambda: fitted(name, stage.why, blocks, config, room, cost)
    )
    if not plan.settings:
        journal.skip(plan)
        return Chapter(plan, None, 0.0, config, config)
    found = journal.carry_out(plan, {"": config})[""]
    choice = choose(plan, found)
    after = config
    if choice.taken:
        point = Point(dict(plan.settings[choice.best]), config["seed"])
        after = configure(config, point, SCHEMA)
    return Chapter(plan, choice, journal.spent[-1].seconds, config, after)
