"""The picture of the finding, the leaderboard, and the differences behind verdicts."""

import math

import numpy as np

from study.arms import Pair, pair_of
from study.compare.contest import Contest, finding, joined, score_interval
from study.compare.naming import described
from study.compare.plots import LOST, color_of, name_rows, picture
from study.compare.section import (
    Picture,
    Section,
    Table,
    amount,
    count,
    fixed,
    p_value,
)
from study.compare.tuned import Tuned
from study.intervals import paired_interval, unpaired_interval
from study.losses import gains_of
from study.power import detectable_effect
from study.verdict import Within


def overview(contest: Contest) -> Picture:
    """Arms with their seeds and intervals, and beside them what each gains."""
    names = [arm.name for arm in contest.ranked]
    compared = [arm for arm in contest.candidates if _gains(contest, arm) is not None]

    def draw(left, right=None) -> None:
        for row, arm in enumerate(contest.ranked):
            _draw_arm(left, contest, arm, row)
        name_rows(left, names)
        left.margins(x=0.12)
        better = "left" if contest.better == "lower" else "right"
        left.set_xlabel(f"{contest.axis}, better to the {better}")
        left.set_title("Each dot is a run of one seed; bars are 95 % intervals")
        if right is None:
            return
        right.axvline(0, color="#444", linewidth=1)
        for arm in compared:
            _draw_gain(right, contest, arm, names.index(arm.name))
        name_rows(right, [""] * len(names))
        right.set_xlabel(f"gain over {contest.baseline.name}, better to the right")
        right.set_title(f"Gain over {contest.baseline.name}, seed by seed")
        right.margins(x=0.15)

    alt = f"{finding(contest)}. " + "; ".join(
        f"{arm.name}: {fixed(score_interval(arm).mean, contest.digits).text}"
        for arm in contest.ranked
    )
    sides = {"num": 2, "widths": (1.35, 1)} if compared else {}
    return picture(draw, alt, height=1.5 + 0.62 * len(names), **sides)


def _draw_arm(axes, contest: Contest, arm: Tuned, row: int) -> None:
    color = color_of([arm.name for arm in contest.arms], arm.name)
    scores = [s for s in arm.arm.scores.values() if math.isfinite(s)]
    axes.plot(scores, [row + 0.16] * len(scores), "o", color=color, alpha=0.55, ms=6)
    found = score_interval(arm)
    if found.method != "none":
        bar = {"color": color, "linewidth": 3, "solid_capstyle": "butt"}
        axes.plot([found.low, found.high], [row - 0.12] * 2, **bar)
    if scores:
        axes.plot(found.mean, row - 0.12, "D", color=color, ms=8, mec="white")
        text = fixed(found.mean, contest.digits).text
        place = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
        axes.annotate(text, (found.mean, row - 0.12), **place, weight="bold")
    if arm.best.num_diverged:
        text = f"{arm.best.num_diverged} of {len(arm.arm.scores)} diverged"
        where = {"xy": (1, row + 0.16), "xycoords": ("axes fraction", "data")}
        axes.annotate(text, **where, color=LOST, ha="right", va="center")


def _draw_gain(axes, contest: Contest, arm: Tuned, row: int) -> None:
    color = color_of([arm.name for arm in contest.arms], arm.name)
    gains, found = _gains(contest, arm), contest.verdicts[arm.name].gain
    if gains is not None:
        axes.plot(gains, [row + 0.16] * len(gains), "o", color=color, alpha=0.55, ms=6)
    if found.method != "none":
        bar = {"color": color, "linewidth": 3, "solid_capstyle": "butt"}
        axes.plot([found.low, found.high], [row - 0.12] * 2, **bar)
        axes.plot(found.mean, row - 0.12, "D", color=color, ms=8, mec="white")
        text = fixed(found.mean, contest.digits, sign=True).text
        place = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
        axes.annotate(text, (found.mean, row - 0.12), **place, weight="bold")


def _gains(contest: Contest, arm: Tuned) -> list[float] | None:
    """Of the pairs of which neither diverged; None without two of them."""
    pair = _pair(contest, arm)
    if not pair.paired:
        return [] if contest.verdicts[arm.name].gain.method != "none" else None
    gains = gains_of(pair.baseline_R, pair.candidate_Q)
    finite = gains[np.isfinite(gains)].tolist()
    return finite if len(finite) > 1 else None


def _pair(contest: Contest, arm: Tuned) -> Pair:
    return pair_of(contest.baseline.arm, arm.arm, contest.better)


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
                fixed(facts["mean"], digits),
                fixed(low, digits),
                fixed(high, digits),
                count(facts["diverged"]),
            ]
        )
        budget = facts["budget"]
        costs.append(
            [
                arm.name,
                count(budget["settings"]),
                count(facts["runs"]),
                count(facts["diverged_runs"]),
                count(budget["steps"]),
                amount(budget.get("tokens", math.nan)),
                amount(facts["seconds"]),
                amount(facts["model_flops"]),
                fixed(facts["gain_of_tuning"], digits),
            ]
        )
    heads = ["arm", "best setting", "seeds", "mean", "95 % from", "to", "diverged"]
    spent = ["arm", "settings", "runs", "diverged", "steps", "tokens"]
    spent += ["seconds, all", "FLOPs, all", "tuning gained"]
    reading = (
        f"Arms at their best setting, ranked by the mean {contest.metric} over the "
        f"seeds that did not diverge ({contest.better} is better). Below: what was "
        "spent on each; steps and tokens are those of one run."
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
        notes=[_caution(contest), *_short(contest)],
    )


def _arm_data(contest: Contest, arm: Tuned) -> dict:
    found, losses = score_interval(arm), [s.loss for s in arm.settings]
    finite = [loss for loss in losses if math.isfinite(loss)]
    gained = float(np.median(finite)) - arm.best.loss if finite else math.nan
    return {
        "name": arm.name,
        "setting": dict(arm.best.values),
        "scores": {str(seed): score for seed, score in arm.arm.scores.items()},
        "mean": found.mean,
        "interval": [found.low, found.high],
        "method": found.method,
        "n": len(arm.arm.scores),
        "diverged": arm.best.num_diverged,
        "diverged_runs": sum(setting.num_diverged for setting in arm.settings),
        "budget": dict(arm.arm.budget),
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


def _caution(contest: Contest) -> str:
    each = [f"{len(arm.settings)} for {arm.name}" for arm in contest.ranked]
    return (
        "The best setting was chosen and then compared on the same seeds. That favours "
        f"the arm with more settings: there were {joined(each)}."
    )


def _short(contest: Contest) -> list[str]:
    """Settings that lack seeds, of arms that have such."""
    return [
        f"{arm.num_short} settings of {arm.name} lack seeds and could not be its best."
        for arm in contest.ranked
        if arm.num_short
    ]


def differences(contest: Contest) -> Section:
    """Each arm against the baseline: the gain, the tests, the verdict."""
    title = f"Differences from {contest.baseline.name}"
    if not contest.candidates:
        return Section("comparisons", title, data=[], absent="There is one arm only.")
    data = [_difference(contest, arm) for arm in contest.candidates]
    digits = contest.digits
    rows, seeds = [], []
    for facts in data:
        low, high = facts["interval"]
        rows.append(
            [
                facts["candidate"],
                facts["kind"],
                fixed(facts["effect"], digits, sign=True),
                fixed(low, digits, sign=True),
                fixed(high, digits, sign=True),
                count(facts["n"]),
                p_value(facts["p_alone"]),
                p_value(facts["p"]),
                facts["reason"],
            ]
        )
        needed = facts["needed_seeds"]
        seeds.append(
            [
                facts["candidate"],
                fixed(facts["equal_within"], digits),
                fixed(facts["detectable"], digits),
                "–" if needed is None else count(needed),
            ]
        )
    heads = ["arm", "verdict", "gain", "95 % from", "to", "seeds", "p alone", "p, Holm"]
    more = ["arm", "equal within", "could have been seen", "seeds it would take"]
    return Section(
        "comparisons",
        title,
        _reading(contest),
        data,
        [
            Table([*heads, "why"], rows, wide=("why",)),
            Table(more, seeds, "What so many seeds can show"),
        ],
        notes=[
            "Equal within: the least margin for which two one-sided t-tests (TOST) at "
            "0.05 show that both are equal. Could have been seen: the gain that so many "
            "seeds find in 80 of 100 cases. Seeds it would take: for an answer, if the "
            "gain is what it seems."
        ],
    )


def _reading(contest: Contest) -> str:
    base = contest.baseline.name
    asked = f"Asked is whether an arm is {contest.question.bar(base)}."
    paired = any(_pair(contest, arm).paired for arm in contest.candidates)
    test = "flips the signs of the gains" if paired else "deals the runs out anew"
    if isinstance(contest.question, Within):
        by = "p is of two one-sided t-tests (TOST)"
    else:
        by = f"p is of the exact test that {test}"
    return (
        f"{asked} A gain above 0 is better than {base}; {by}, alone and counted among "
        "all arms (Holm). INVALID is a comparison that could not have given an answer, "
        "or was not fair."
    )


def _difference(contest: Contest, arm: Tuned) -> dict:
    verdict, pair = contest.verdicts[arm.name], _pair(contest, arm)
    usable = pair.num_seeds >= 2 and not any(pair.num_diverged)
    narrow = paired_interval if pair.paired else unpaired_interval
    equal = seen = math.nan
    if usable:
        inner = narrow(pair.baseline_R, pair.candidate_Q, level=0.9)
        equal = max(abs(inner.low), abs(inner.high))
        if pair.sd > 0:
            seen = detectable_effect(pair.sd, pair.num_seeds, paired=pair.paired)
    return {
        "candidate": arm.name,
        "baseline": contest.baseline.name,
        "kind": verdict.kind,
        "effect": verdict.gain.mean,
        "interval": [verdict.gain.low, verdict.gain.high],
        "method": verdict.gain.method,
        "n": verdict.num_seeds,
        "paired": pair.paired,
        "p": verdict.p,
        "p_alone": contest.question.p(pair) if pair.num_seeds else math.nan,
        "reason": verdict.reason,
        "needed_seeds": verdict.needed_seeds,
        "equal_within": equal,
        "detectable": seen,
        "num_diverged": list(verdict.num_diverged),
    }
