"""The leaderboard: arms by their mean, and what was spent on each."""

import math

import numpy as np

from study.compare.contest import Contest, joined, mean_score, score_interval
from study.compare.naming import described, told
from study.compare.section import Section, Table, amount, count, fixed
from study.compare.tuned import Tuned


def leaderboard(contest: Contest) -> Section:
    """The arms by their mean score, and what their tuning took."""
    data = [_arm_data(contest, arm) for arm in contest.ranked]
    digits, rows, costs = contest.digits, [], []
    for arm, facts in zip(contest.ranked, data, strict=True):
        low, high = facts["interval"]
        rows.append(
            [
                arm.name,
                described(arm.best.values) or "as it was run",
                count(len(arm.arm.scores)),
                count(facts["diverged"]),
                fixed(facts["median"], digits),
                fixed(facts["mean"], digits),
                fixed(low, digits),
                fixed(high, digits),
            ]
        )
        budget = facts["budget"]
        costs.append(
            [
                arm.name,
                count(budget["settings"]),
                count(facts["runs"]),
                count(facts["diverged_runs"]),
                count(facts["steps"]),
                amount(budget.get("tokens", math.nan)),
                amount(facts["seconds"]),
                amount(facts["model_flops"]),
                fixed(facts["gain_of_tuning"], digits),
            ]
        )
    heads = ["arm", "best setting", "seeds", "diverged"]
    heads += ["median", "mean", "95 % from", "to"]
    spent = ["arm", "settings", "runs", "diverged", "steps", "tokens"]
    spent += ["seconds, all", "FLOPs, all", "tuning gained"]
    reading = (
        f"Arms at their best setting, ranked by their mean {contest.metric} over the "
        f"seeds ({contest.better} is better); a run that diverged makes it infinite. "
        "Below: what was spent on each; steps and tokens are those of one run."
    )
    return Section(
        "arms",
        "Leaderboard",
        reading,
        data,
        [
            Table(heads, rows, wide=("best setting",)),
            Table(spent, costs, "What was spent"),
        ],
        notes=[*_caution(contest), *_short(contest), *_edges(contest)],
    )


def _arm_data(contest: Contest, arm: Tuned) -> dict:
    found, losses = score_interval(arm), [s.loss for s in arm.settings]
    low, high = sorted([contest.sign * found.low, contest.sign * found.high])
    middle = contest.sign * float(np.median(list(arm.best.losses.values())))
    finite = [loss for loss in losses if math.isfinite(loss)]
    gained = float(np.median(finite)) - arm.best.loss if finite else math.nan
    return {
        "name": arm.name,
        "setting": dict(arm.best.values),
        "scores": {str(seed): score for seed, score in arm.arm.scores.items()},
        "mean": mean_score(contest, arm),
        "median": middle,
        "interval": [low, high],
        "method": found.method,
        "n": len(arm.arm.scores),
        "diverged": arm.best.num_diverged,
        "diverged_runs": sum(setting.num_diverged for setting in arm.settings),
        "budget": dict(arm.arm.budget),
        "steps": max(run.steps for run in arm.best.runs.values()),
        "runs": len(arm.runs),
        "seconds": _total(arm, "seconds"),
        "model_flops": _total(arm, "model_flops"),
        "gain_of_tuning": gained,
        "edges": [edge._asdict() for edge in arm.arm.edges],
        "read_step": arm.arm.read_step,
        "end_step": arm.arm.end_step,
    }


def _total(arm: Tuned, name: str) -> float:
    return float(sum(run.amount(name) for run in arm.runs))


def _caution(contest: Contest) -> list[str]:
    """That an arm was tuned on the seeds that it is judged by."""
    if not contest.candidates:
        return []
    each = [f"{len(arm.settings)} for {arm.name}" for arm in contest.ranked]
    return [
        "The best setting was chosen and then compared on the same seeds. That favours "
        f"the arm with more settings: there were {joined(each)}."
    ]


def _edges(contest: Contest) -> list[str]:
    """Where the best of an arm is the last that was tried, so that none is known."""
    return [
        f"The best {edge.key}={told(edge.value)} of {arm.name} is the {edge.side} that "
        "was tried: a better one may lie beyond."
        for arm in contest.ranked
        for edge in arm.arm.edges
    ]


def _short(contest: Contest) -> list[str]:
    """Settings that lack seeds, of arms that have such."""
    return [
        f"{arm.num_short} settings of {arm.name} lack seeds and could not be its best."
        for arm in contest.ranked
        if arm.num_short
    ]
