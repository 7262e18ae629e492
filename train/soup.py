"""Soups: the mean of several runs' parameters, which costs no more than one to use.

Source: Wortsman et al. 2022, https://arxiv.org/abs/2203.05482.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import PyTree

from core.refusal import shown
from train.evaluated import mean_of
from train.folder import Folder
from train.leaves import leaves_of
from train.shelf import more_is_better
from train.trained import Trained


def uniform(members: Sequence[PyTree]) -> PyTree:
    """The mean of all."""
    return mean_of(members)


def greedy(
    members: Sequence[PyTree], score: Callable[[PyTree], float]
) -> tuple[PyTree, list[int]]:
    """The mean of those that do not make it worse, and their numbers in `members`.

    From the best down, a member joins if the mean with it scores at least what the
    mean without it does. More is better. Recipe 1 of the paper; so the soup is never
    worse than the best member where it was scored.
    """
    scores = [score(member) for member in members]
    order = sorted(range(len(members)), key=lambda number: -scores[number])
    chosen, soup, best = order[:1], members[order[0]], scores[order[0]]
    for number in order[1:]:
        wider = mean_of([members[n] for n in (*chosen, number)])
        found = score(wider)
        if found >= best:
            chosen, soup, best = [*chosen, number], wider, found
    return soup, chosen


def of_runs(
    workdirs: Sequence[str], *, checkpoint: str | int = "best", one_by_one: bool = False
) -> tuple[PyTree, list[str]]:
    """The soup of the runs in these folders, and the folders that are in it.

    Uniform, or greedy where members are tried `one_by_one`, on the validation split of
    the first run and by the score that its checkpoints are chosen by. A soup is of one
    recipe: runs of one model from the same first parameters; of others the mean is no
    model.

    Raises:
      FileNotFoundError, ValueError: a folder holds no run, or of another model.
    """
    runs = [Trained(Folder(workdir), checkpoint) for workdir in workdirs]
    first = runs[0]
    for workdir, run in zip(workdirs, runs, strict=True):
        _check_same(workdirs[0], first, workdir, run)
    members = [run.params for run in runs]
    if not one_by_one:
        return uniform(members), list(workdirs)
    name: Any = first.config["checkpoint"]["best"]
    sign = 1 if more_is_better(name) else -1
    prepared = first.prepared("validation")

    def score(params: PyTree) -> float:
        scores = first.scores_of(params, prepared, "validation")
        return sign * scores[name.removeprefix("val_")]

    soup, chosen = greedy(members, score)
    return soup, [workdirs[number] for number in chosen]


def _check_same(one: str, first: Trained, other: str, run: Trained) -> None:
    """Raises ValueError unless the two hold the same leaves and the same words."""
    mine, theirs = leaves_of(first.params), leaves_of(run.params)
    for name in sorted({*mine, *theirs}):
        here = mine[name].shape if name in mine else "none"
        there = theirs[name].shape if name in theirs else "none"
        if here != there:
            raise ValueError(
                f"{name} has shape {here} in {shown(one)} and {there} in "
                f"{shown(other)}: they make no soup."
            )
    if first.tokenizer.model != run.tokenizer.model:
        raise ValueError(f"{shown(one)} and {shown(other)} differ in their tokenizers.")
