"""The picture of the finding: what each arm scored, and what it gained, by seed."""

import math

import numpy as np

from study.compare.contest import Contest, finding, mean_score, pair, score_interval
from study.compare.plots import LOST, color_of, cut, name_rows, picture
from study.compare.section import Picture, fixed
from study.compare.tuned import Tuned
from study.losses import gains_of


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
        left.set_title("Runs by seed, mean, 95 % interval")
        if right is None:
            return
        right.axvline(0, color="#444", linewidth=1)
        for arm in compared:
            _draw_gain(right, contest, arm, names.index(arm.name))
        name_rows(right, [""] * len(names))
        right.set_xlabel("gain, better to the right")
        right.set_title(f"Gain over {cut(contest.baseline.name)}")
        right.margins(x=0.15)

    alt = f"{finding(contest)}. " + "; ".join(
        f"{arm.name}: {fixed(mean_score(contest, arm), contest.digits).text}"
        for arm in contest.ranked
    )
    sides = {"num": 2, "widths": (1.35, 1)} if compared else {}
    return picture(draw, alt, height=1.5 + 0.62 * len(names), **sides)


def _draw_arm(axes, contest: Contest, arm: Tuned, row: int) -> None:
    scores = [s for s in arm.arm.scores.values() if math.isfinite(s)]
    found, sign = score_interval(arm), contest.sign
    ends = sorted([sign * found.low, sign * found.high])
    text = fixed(sign * found.mean, contest.digits).text
    _draw_row(axes, contest, arm, row, scores, (sign * found.mean, *ends), text)
    if lost := arm.best.num_diverged:
        where = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center"}
        text = f"{lost} of {len(arm.arm.scores)} diverged"
        axes.annotate(text, (1, row - 0.12), color=LOST, weight="bold", **where)


def _draw_gain(axes, contest: Contest, arm: Tuned, row: int) -> None:
    found = contest.verdicts[arm.name].gain
    text = fixed(found.mean, contest.gain_digits, sign=True).text
    _draw_row(axes, contest, arm, row, _gains(contest, arm) or [], found[:3], text)


def _draw_row(axes, contest, arm, row, dots, found, text: str) -> None:
    """Runs as dots, and above them the mean with its interval, if it has one."""
    color = color_of([one.name for one in contest.arms], arm.name)
    axes.plot(dots, [row + 0.18] * len(dots), "o", color=color, alpha=0.55, ms=6)
    mean, low, high = found
    if math.isfinite(high - low):
        bar = {"color": color, "linewidth": 3.5, "solid_capstyle": "butt"}
        axes.plot([low, high], [row - 0.1] * 2, **bar)
    if math.isfinite(mean):
        axes.plot(mean, row - 0.1, "D", color=color, ms=8, mec="white")
        place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        axes.annotate(text, (mean, row - 0.1), **place, weight="bold")


def _gains(contest: Contest, arm: Tuned) -> list[float] | None:
    """Of the pairs of which neither diverged; None without two of them."""
    both = pair(contest, arm)
    if not both.paired:
        return [] if contest.verdicts[arm.name].gain.method != "none" else None
    gains = gains_of(both.baseline_R, both.candidate_Q)
    finite = gains[np.isfinite(gains)].tolist()
    return finite if len(finite) > 1 else None
