"""What a search would try next, each idea with the words that do it."""

import shlex
from collections.abc import Iterator, Sequence

from core.types import Config
from study.compare.naming import told as value_told
from study.point import text_of
from study.recipe.budget import told
from study.recipe.chapter import Chapter, at_edge
from study.recipe.journal import Journal
from study.recipe.last import Final
from study.recipe.stages import PEAK

SEVERAL = 3


def ideas(
    journal: Journal, given: Config, chapters: Sequence[Chapter], final: Final | None
) -> Iterator[str]:
    """A line each, the most promising first."""
    if final is not None:
        yield from _of_final(final)
    yield from _promising(chapters, final)
    short = [x.plan.name for x in chapters if x.choice is None or x.plan.left_out]
    if short:
        yield (
            f"More time: {', '.join(short)} had no room for all that is listed there. "
            "Or a smaller num_steps, for more trials in the same time."
        )
    folder = journal.folder
    words = [
        f"--config={folder / 'recipe.json'}",
        f"--budget={told(2 * journal.budget_seconds)}",
        f"--workdir={folder.with_name(f'{folder.name}-2')}",
    ]
    yield (
        "The search again, from the recipe on and twice as long: "
        f"`python launch.py recipe {shlex.join(words)}`"
    )
    yield (
        f"The length you want: all trials had num_steps={given['num_steps']}, and the "
        "best rate of a longer run is often a lower one."
    )


def _of_final(final: Final) -> Iterator[str]:
    needed, verdict = final.verdict.needed_seeds, final.verdict
    if not final.won and needed is not None:
        yield (
            f"More seeds: the last comparison had {verdict.num_seeds} pairs, and a "
            f"gain like the one it saw takes {needed}."
        )
    edge = at_edge(final.chapter.plan, final.name)
    if final.won and edge is not None:
        peak = final.config["optim"]["schedule"]["peak"]
        further = peak * 2 if edge == "highest" else peak / 2
        yield (
            f"A rate beyond: {value_told(peak)} was the {edge} that was tried with it. "
            f"`--config.{PEAK}={value_told(further)}`"
        )


def _promising(chapters: Sequence[Chapter], final: Final | None) -> Iterator[str]:
    """Settings that were better in the mean, of stages that took nothing.

    Without the one that ran against the given config, and, if it won, its whole stage.
    """
    over = final.chapter if final is not None and final.won else None
    found = [
        (chapter.choice.gain(name), chapter, name)
        for chapter in chapters
        if chapter.choice is not None and not chapter.choice.taken
        if chapter is not over
        for name in chapter.choice.losses
        if 0 < chapter.choice.gain(name) < float("inf")
        and not (final and (final.chapter, final.name) == (chapter, name))
    ]
    for gain, chapter, name in sorted(found, key=lambda x: -x[0])[:SEVERAL]:
        setting = chapter.plan.settings[name].items()
        words = " ".join(f"--config.{key}={text_of(value)}" for key, value in setting)
        yield (
            f"More seeds of a setting of {chapter.plan.name} that was {gain:.3g} nats "
            f"better in the mean, which its seeds could not show: `{words}`"
        )
