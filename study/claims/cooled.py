"""The criterion of one trunk with many cooldowns, against a run for each budget."""

import math
import statistics
from collections.abc import Mapping

from study import trunk as trunks
from study.claims.compared import METRIC, NATS
from study.claims.judged import Judged, Line, Part, Plot, above, plain
from study.claims.runs import Run, Runs, Setting, arm


def cooled(
    runs: Runs,
    *,
    of: str,
    separate: tuple[str, ...],
    trunk: str,
    budgets: tuple[int, ...],
    margin: float,
    max_cost_share: float,
    read_at: int,
    early_floor: float,
) -> Judged:
    """Does one trunk serve all budgets, as well as runs of their own and for less?

    The words `separate`, one of each of the `budgets`, are runs of their own, each at
    the best of its rates. The trunk is the run of the last budget and has a branch for
    each of the others; all are at one rate, the best by the mean over the budgets. The
    longest of the separate runs is read at the budget `read_at`, too, where it is to be
    behind the branch by more than `early_floor`.
    """
    own = dict(
        zip(budgets, (runs.having({of: word}) for word in separate), strict=True)
    )
    cut = {n: runs.having({of: trunk, "num_steps": n}) for n in budgets}
    rate = _pooled(cut)
    ours = {n: _at(part, rate.best.first.point.setting) for n, part in cut.items()}
    theirs = {n: part.best for n, part in own.items()}
    early = theirs[budgets[-1]].by_seed(lambda run: _read_at(run, read_at))
    parts = [
        above(
            f"{trunk} of {n} steps is behind {word} by less than {margin:g} nats",
            arm(word, theirs[n].losses, own[n].edges),
            arm(f"{trunk} of {n}", ours[n].losses, rate.edges),
            -margin,
            metric=METRIC,
        )
        for n, word in zip(budgets, separate, strict=True)
    ]
    parts += [
        _cost(ours, theirs, trunk, max_cost_share),
        above(
            f"{separate[-1]}, read at step {read_at}, is behind {trunk} of that "
            f"budget by more than {early_floor:g} nats",
            arm(f"{separate[-1]} at {read_at}", early),
            arm(f"{trunk} of {read_at}", ours[read_at].losses),
            early_floor,
            metric=METRIC,
        ),
    ]
    lines = [
        _line("a run for each budget", theirs),
        _line(f"{trunk}, one trunk", ours),
        Line(f"{separate[-1]}, read early", [read_at], [[*early.values()]]),
    ]
    return Judged(parts, Plot("steps of the budget", NATS, lines))


def _pooled(cut: dict[int, Runs]) -> Runs:
    """The trunks, with the mean loss over all budgets."""
    losses: dict[tuple[str, int], list[float]] = {}
    for part in cut.values():
        for run in part.runs:
            losses.setdefault(_place(run), []).append(run.loss)
    whole = cut[max(cut)]
    return whole._replace(
        runs=[r._replace(loss=statistics.fmean(losses[_place(r)])) for r in whole.runs]
    )


def _place(run: Run) -> tuple[str, int]:
    return run.point.setting, run.point.seed


def _at(part: Runs, setting: str) -> Setting:
    return next(s for s in part.settings if s.first.point.setting == setting)


def _line(name: str, settings: Mapping[int, Setting]) -> Line:
    """The losses over the budgets."""
    return Line(name, [*settings], [[*s.losses.values()] for s in settings.values()])


def _cost(
    ours: Mapping[int, Setting], theirs: Mapping[int, Setting], trunk: str, share: float
) -> Part:
    """What both took in FLOPs, the trunk counted once."""
    spent, alone = (
        trunks.total(run.folder for s in settings.values() for run in s.runs.values())
        for settings in (ours, theirs)
    )
    part = spent.model_flops / alone.model_flops
    said = (
        f"{trunk} took {spent.steps:,} steps for all budgets and seeds, and runs of "
        f"their own {alone.steps:,}: {part:.1%} of the FLOPs"
    )
    return plain(f"it takes at most {share:.0%} of the FLOPs", part <= share, said)


def _read_at(run: Run, step: int) -> float:
    """The loss on validation then; inf of a run that had diverged."""
    return run.curve.get(step, math.inf)
