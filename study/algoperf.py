"""AlgoPerf's public trials, scored by its own rules and by two that are more exact.

The rules, for the submissions of one version and one tuning ruleset:

1. A submission's time on a workload is the median over its studies; a study has the
   time of one of its trials, and inf if none reaches the target.
2. In version 0.5 some base workloads have a held-out variant. Where the base was not
   reached, the variant is a miss.
3. A time above 4 times the fastest of its workload is a miss.
4. Where the variant is a miss now, so is its base. Only base workloads are scored.
5. The score is the area under the performance profile (`study/profiles.py`).

The modes differ in the trial of 1 and in the area of 5:

official        the trial with the earliest evaluation at the target, though another may
                have got there in fewer seconds; of two at the same evaluation, the
                faster one (the rules leave that to the order of folders). Trapezoids.
true-time       the trial that was there in the fewest seconds. Trapezoids.
exact-integral  the same trial, and the exact area of the staircase.

Official scores are the 19 published ones to 4 decimals. The fewest seconds change one
of them, lawa_ema of 0.5 from .3384 to .3434; the exact area then moves scores by up to
.0015. No order of submissions changes.

Source: Dahl et al. 2023, https://arxiv.org/abs/2306.07179, section 4; Kasimbeg et al.
2025, https://arxiv.org/abs/2502.15015, for the scores of version 0.5. The trials are
those of github.com/mlcommons/submissions_algorithms.
"""

import csv
import gzip
import math
import os
import pathlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from core.refusal import shown
from core.registry import lookup
from study.profiles import MAX_RATIO, area, ratios, trapezoid_area

BASE = (
    *("criteo1tb", "fastmri", "imagenet_resnet", "imagenet_vit"),
    *("librispeech_conformer", "librispeech_deepspeech", "ogbg", "wmt"),
)
# Of each version, the held-out variant of a base workload.
HELD_OUT: Mapping[str, Mapping[str, str]] = {
    "algoperf_v05": {
        "criteo1tb": "criteo1tb_embed_init",
        "fastmri": "fastmri_tanh",
        "imagenet_resnet": "imagenet_resnet_large_bn_init",
        "librispeech_conformer": "librispeech_conformer_layernorm",
        "ogbg": "ogbg_model_size",
        "wmt": "wmt_glu_tanh",
    },
    "algoperf_v06": {},
}
RULESETS = ("external_tuning", "self_tuning")


class Trial(NamedTuple):
    """One line of the log: when a trial first was at the validation target.

    `seconds` is inf and `eval_index` -1 where it never was.
    """

    version: str
    ruleset: str
    submission: str
    workload: str
    study: str
    trial: str
    seconds: float
    eval_index: int


class Mode(NamedTuple):
    """Which trial stands for its study, and how the profile becomes a score."""

    order: Callable[[Trial], tuple[float, ...]]
    area: Callable[[Sequence[float]], float]


def _by_evaluation(trial: Trial) -> tuple[float, ...]:
    return trial.eval_index, trial.seconds


def _by_seconds(trial: Trial) -> tuple[float, ...]:
    return (trial.seconds,)


MODES = {
    "official": Mode(_by_evaluation, trapezoid_area),
    "true-time": Mode(_by_seconds, trapezoid_area),
    "exact-integral": Mode(_by_seconds, area),
}
COLUMNS = (*Trial._fields[:6], "time_to_target_s", "eval_index")


def read_trials(path: str | os.PathLike) -> list[Trial]:
    """The trials of a CSV file, gzipped or not, whose columns are `COLUMNS`.

    Raises:
      ValueError: a column is missing, or a line has no number where one must be; names
        file and line.
    """
    path = pathlib.Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path.name} has no column {missing[0]!r}.")
        return [_trial(row, f"{path.name}:{reader.line_num}") for row in reader]


def _trial(row: Mapping[str, str], where: str) -> Trial:
    words = {field: row[field] for field in COLUMNS[:6]}
    seconds, index = (row[column] for column in COLUMNS[6:])
    try:
        trial = Trial(**words, seconds=float(seconds), eval_index=int(index))
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: time_to_target_s={shown(seconds)} and eval_index={shown(index)} "
            "must be numbers."
        ) from None
    if not trial.seconds > 0 or (trial.seconds < math.inf) != (trial.eval_index >= 0):
        raise ValueError(
            f"{where}: time_to_target_s={seconds} must be above 0, and inf just where "
            f"eval_index={index} is -1."
        )
    return trial


def times(
    trials: Iterable[Trial], version: str, ruleset: str, mode: str = "official"
) -> dict[str, dict[str, float]]:
    """Seconds by submission and base workload after the rules; a miss is inf.

    Raises:
      ValueError: no such version, ruleset or mode.
    """
    variants = lookup(HELD_OUT, version, "version")
    lookup(dict.fromkeys(RULESETS), ruleset, "ruleset")
    order = lookup(MODES, mode, "mode").order
    studies = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        if (trial.version, trial.ruleset) == (version, ruleset):
            place = studies[trial.submission, trial.workload]
            place[trial.study].append(trial)
    # A missing study is none; a missing workload is a miss.
    medians = {
        place: float(np.median([_seconds(group, order) for group in found.values()]))
        for place, found in studies.items()
    }
    submissions = sorted({submission for submission, _ in medians})
    workloads = (*BASE, *variants.values())
    table = {
        s: {w: medians.get((s, w), math.inf) for w in workloads} for s in submissions
    }
    return _held_out(table, variants)


def _seconds(
    study: Iterable[Trial], order: Callable[[Trial], tuple[float, ...]]
) -> float:
    reached = [trial for trial in study if trial.eval_index >= 0]
    return min(reached, key=order).seconds if reached else math.inf


def _held_out(
    table: dict[str, dict[str, float]], variants: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Rules 2 to 4."""
    for row in table.values():
        for base, variant in variants.items():
            if row[base] == math.inf:
                row[variant] = math.inf
    limits = {
        w: MAX_RATIO * min((row[w] for row in table.values()), default=math.inf)
        for w in (*BASE, *variants.values())
    }
    for row in table.values():
        for workload, limit in limits.items():
            if row[workload] > limit:
                row[workload] = math.inf
        for base, variant in variants.items():
            if row[variant] == math.inf:
                row[base] = math.inf
    return {s: {w: row[w] for w in BASE} for s, row in table.items()}


def scores(
    trials: Iterable[Trial], version: str, ruleset: str, mode: str = "official"
) -> dict[str, float]:
    """The score of every submission, from 0 to 1, the best first.

    Raises:
      ValueError: no such version, ruleset or mode.
    """
    found = ratios(times(trials, version, ruleset, mode))
    integrate = MODES[mode].area
    every = {name: integrate(list(row.values())) for name, row in found.items()}
    return dict(sorted(every.items(), key=lambda item: -item[1]))
