"""What a search would try next, each with the command or the words that do it."""

import shlex
from collections.abc import Iterator, Sequence

from core.types import Config
from study.compare.naming import told as value_told
from study.recipe.budget import told
from study.recipe.chapter import Chapter, at_edge
from study.recipe.journal import Journal
from study.recipe.last import Final

SEVERAL = 3


def ideas(
    journal: Journal, given: Config, chapters: Sequence[Chapter], final: Final | None
) -> Iterator[str]:
    """A line each, the most promising first."""
    if final is not None and final.verdict.kind != "PASS":
        yield from _undecided(final)
    if chapters and (edge := at_edge(chapters[-1])):
        yield f"The {edge} rate was the best to the end: one beyond it."
    for chapter in chapters:
        if chapter.choice is None or chapter.plan.left_out:
            reasons = "; ".join(chapter.plan.left_out)
            yield f"Stage {chapter.plan.name}, with more time: {reasons}."
    found = sorted(_promising(chapters), reverse=True)[:SEVERAL]
    for gain, stage, name in found:
        yield (
            f"{name} ({stage}) was better by {gain:.3g} nats in the mean, which the "
            "seeds could not show: more seeds, by a sweep over it alone."
        )
    again = journal.folder.with_name(f"{journal.folder.name}-2")
    words = [
        "python",
        "launch.py",
        "recipe",
        f"--config={journal.folder / 'recipe.json'}",
        f"--budget={told(2 * journal.budget_seconds)}",
        f"--workdir={again}",
    ]
    yield f"The same search from the recipe on, twice as long: `{shlex.join(words)}`"
    yield (
        "Longer runs: all trials had "
        f"num_steps={value_told(given['num_steps'])}, and a rate that is best in short "
        "runs is often too high in long ones."
    )


def _undecided(final: Final) -> Iterator[str]:
    needed = final.verdict.needed_seeds
    if needed is not None:
        yield (
            f"The last comparison had {final.verdict.num_seeds} pairs of seeds; a gain "
            f"like the one it saw takes {needed}."
        )


def _promising(chapters: Sequence[Chapter]) -> Iterator[tuple[float, str, str]]:
    """Settings that were better in the mean, of stages that took nothing."""
    for chapter in chapters:
        choice = chapter.choice
        if choice is not None and not choice.taken:
            for name in choice.losses:
                if 0 < choice.gain(name) < float("inf"):
                    yield choice.gain(name), chapter.plan.name, name
