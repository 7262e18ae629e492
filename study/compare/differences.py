"""Each arm against the baseline: what it gains, by which tests, and the verdict."""

import math

from study.compare.contest import Contest, pair
from study.compare.section import Section, Table, count, fixed, p_value
from study.compare.tuned import Tuned
from study.intervals import paired_interval, unpaired_interval
from study.power import detectable_effect
from study.verdict import Within

ALPHA = 0.05  # of all comparisons together


def differences(contest: Contest) -> Section:
    """Each arm against the baseline: the gain, the tests, the verdict."""
    title = f"Differences from {contest.baseline.name}"
    if not contest.candidates:
        return Section("comparisons", title, data=[], absent="There is one arm only.")
    data = [_difference(contest, arm) for arm in contest.candidates]
    digits = contest.gain_digits
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
                fixed(math.nan, 0) if needed is None else count(needed),
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
            "0.05 show that both are equal. Could have been seen: the gain that so "
            "many seeds find in 80 of 100 cases, counted among all arms. Seeds it "
            "would take: for an answer, if the gain is what it seems."
        ],
    )


def _reading(contest: Contest) -> str:
    base = contest.baseline.name
    asked = f"Asked is whether an arm is {contest.question.bar(base)}."
    paired = any(pair(contest, arm).paired for arm in contest.candidates)
    test = "flips the signs of the gains" if paired else "deals the runs out anew"
    sides = ""
    if isinstance(contest.question, Within):
        by = "p is of two one-sided t-tests (TOST)"
    else:
        sides = "PASS takes both: p, and all of the interval. "
        by = f"p is of the exact one-sided test that {test}"
    return (
        f"{asked} A gain above 0 is better than {base}; {by}, alone and counted among "
        f"all arms (Holm). {sides}INVALID is a comparison that could not have given an "
        "answer, or was not fair."
    )


def _difference(contest: Contest, arm: Tuned) -> dict:
    verdict, both = contest.verdicts[arm.name], pair(contest, arm)
    usable = both.num_seeds >= 2 and not any(both.num_diverged)
    narrow = paired_interval if both.paired else unpaired_interval
    equal = seen = math.nan
    if usable:
        inner = narrow(both.baseline_R, both.candidate_Q, level=0.9)
        equal = max(abs(inner.low), abs(inner.high))
        alpha = ALPHA / len(contest.candidates)
        if both.sd > 0 and both.least_p <= alpha:
            of = both.sd, both.num_seeds
            seen = detectable_effect(*of, paired=both.paired, alpha=alpha)
    return {
        "candidate": arm.name,
        "baseline": contest.baseline.name,
        "kind": verdict.kind,
        "effect": verdict.gain.mean,
        "interval": [verdict.gain.low, verdict.gain.high],
        "method": verdict.gain.method,
        "n": verdict.num_seeds,
        "paired": both.paired,
        "p": verdict.p,
        "p_alone": contest.question.p(both) if both.num_seeds else math.nan,
        "reason": verdict.reason,
        "needed_seeds": verdict.needed_seeds,
        "equal_within": equal,
        "detectable": seen,
        "num_diverged": list(verdict.num_diverged),
    }
