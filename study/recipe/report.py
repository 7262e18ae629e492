"""What a search leaves to its reader: recipe.json, recipe.md, and lines to print."""

from collections.abc import Sequence
from typing import NamedTuple

from core.overrides import resolve
from core.settings import dump
from core.types import Config
from study.compare.runs import flattened
from study.outcomes import METRIC
from study.point import text_of
from study.recipe import upcoming
from study.recipe.budget import told
from study.recipe.chapter import Chapter
from study.recipe.journal import Journal
from study.recipe.last import PAGE, Final
from train.logs import write_bytes
from train.schema import SCHEMA

JSON, TEXT = "recipe.json", "recipe.md"


class Recipe(NamedTuple):
    """The config that is recommended, and what there is to say, a line each."""

    config: Config
    lines: Sequence[str]


def write(
    journal: Journal, given: Config, chapters: Sequence[Chapter], final: Final | None
) -> Recipe:
    """Writes both files; the page is there already."""
    config = final.config if final and final.won else given
    folder = journal.folder
    write_bytes(folder / JSON, dump(config).encode() + b"\n")
    words, verdict = typed(given, config), judged(final)
    write_bytes(
        folder / TEXT, _page(journal, given, chapters, final, words, verdict).encode()
    )
    names = [JSON, TEXT, *([PAGE] if final else [])]
    spent = f"{told(journal.seconds)} of {told(journal.budget_seconds)}"
    lines = [
        verdict,
        f"Recipe: {' '.join(words) or 'the given config, unchanged'}",
        f"Spent: {spent}    {'    '.join(str(folder / name) for name in names)}",
    ]
    return Recipe(config, lines)


def typed(given: Config, found: Config) -> list[str]:
    """The words that make the one of the other: `--config.KEY=VALUE`.

    What a newly named builder has by itself is not typed.
    """
    before, after = flattened(given), flattened(found)
    names = {
        key: text_of(value)
        for key, value in after.items()
        if key.rpartition(".")[2] == "name" and before.get(key) != value
    }
    renamed = flattened(resolve(given, names, SCHEMA)[0])
    rest = {
        key: text_of(value) for key, value in after.items() if renamed.get(key) != value
    }
    return [f"--config.{key}={text}" for key, text in (names | rest).items()]


def judged(final: Final | None) -> str:
    """What the last comparison says, and so what the recipe is."""
    if final is None:
        return "Every run diverged: the recipe is the given config, as it was."
    verdict = final.verdict
    if verdict.kind == "PASS":
        return f"PASS: {final.finding}. The recipe is what was found."
    if final.won:
        return (
            f"The given config diverged with all {final.num_pairs} seeds, what was "
            "found with none. The recipe is what was found."
        )
    return f"{verdict.kind}: {verdict.reason}. The recipe is the given config."


def _page(
    journal: Journal,
    given: Config,
    chapters: Sequence[Chapter],
    final: Final | None,
    words: Sequence[str],
    verdict: str,
) -> str:
    lines = ["# Recipe", "", verdict, ""]
    if words:
        lines += ["What it changes in the given config:", "", _block(words)]
    else:
        lines += ["It changes nothing in the given config.", ""]
    spent, whole = told(journal.seconds), told(journal.budget_seconds)
    pilot = told(journal.spent[0].seconds)
    lines += [
        f"`{JSON}` is the whole config: `python launch.py train "
        f"--config={journal.folder / JSON} --workdir=DIR`.",
        "",
        f"Losses are {METRIC} in nats, the mean over seeds and its 95 % interval; less "
        "is better. A stage takes its best setting where the gain is more than seeds "
        "explain: its interval, in pairs of seeds and at a level that allows for the "
        "best of several being lucky, lies above 0. Else the config stays as it is.",
        "",
        f"Spent: {spent} of {whole}, of which {pilot} on a pilot that measured what a "
        "trial costs.",
        "",
    ]
    for number, chapter in enumerate(chapters, 1):
        lines += _chapter(number, chapter)
    if final is not None:
        lines += _final(len(chapters) + 1, given, final)
    lines += ["## What to try next", ""]
    lines += [f"* {line}" for line in upcoming.ideas(journal, given, chapters, final)]
    return "\n".join(lines) + "\n"


def _chapter(number: int, chapter: Chapter) -> list[str]:
    plan, choice = chapter.plan, chapter.choice
    lines = [f"## {number}. {plan.name}", "", plan.why, ""]
    if choice is None:
        return [*lines, f"Left out: {'; '.join(plan.left_out)}.", ""]
    lines += [
        f"Settings {len(plan.settings)}, seeds {len(plan.seeds)}, in "
        f"{told(chapter.seconds)}.",
        "",
        f"| setting | {METRIC} | |",
        "|---|---|---|",
    ]
    for name in choice.losses:
        lost = sum(loss == float("inf") for loss in choice.losses[name])
        notes = ["so far"] * (name == choice.own) + ["best"] * (name == choice.best)
        notes += [f"{lost} of {len(plan.seeds)} diverged"] if lost else []
        score = "none" if lost else str(choice.interval(name))
        lines.append(f"| {name} | {score} | {', '.join(notes)} |")
    lines += ["", f"**{choice.why[:1].upper()}{choice.why[1:]}.**", ""]
    if plan.left_out:
        lines += [f"Not tried: {'; '.join(plan.left_out)}.", ""]
    return lines


def _final(number: int, given: Config, final: Final) -> list[str]:
    what = "What the stages came to runs against it"
    if not final.taken:
        what = (
            "No stage took anything. The setting that was best in the mean, though its "
            "seeds could not show it, gets another chance: it runs against it"
        )
    lines = [f"## {number}. Against the given config", ""]
    lines += [f"{what} on {final.num_pairs} seeds that no stage has seen:", ""]
    lines += [_block(typed(given, final.config))]
    lines += [f"**{final.verdict.kind}: {final.finding}.**", ""]
    lines.append(f"It took {told(final.seconds)}. The page `{PAGE}` has the curves.")
    return [*lines, ""]


def _block(words: Sequence[str]) -> str:
    return "\n".join(["```", *words, "```", ""])
