"""Criteria over widths: does the best learning rate stay where it was?"""

import itertools
import math

from study.claims.compared import NATS
from study.claims.judged import Judged, Line, Part, Plot, plain
from study.claims.runs import Runs


def transferred(
    runs: Runs,
    *,
    of: str,
    stays: str,
    moves: str,
    over: str,
    widths: tuple[str, ...],
    along: str,
    max_octaves: float,
    min_octaves: float,
) -> Judged:
    """Does the best rate stay with `stays` and fall with `moves`, over the widths?

    Best by the mean loss over seeds. With `stays` it moves by `max_octaves` at most and
    a wider model is never worse, each at the rate that was best for the narrowest; with
    `moves` it falls by `min_octaves` or more.
    """
    parts, lines = [], []
    for word in (stays, moves):
        by_width = {width: runs.having({of: word, over: width}) for width in widths}
        rates = [part.best.first.point.overrides[along] for part in by_width.values()]
        octaves = math.log2(rates[0] / rates[-1])
        said = (
            f"{word}: best {along} {', '.join(f'{rate:g}' for rate in rates)} at "
            f"{over} {', '.join(widths)}, {octaves:.1f} octaves down"
        )
        if word == stays:
            asked = f"{word}: the best rate moves by at most {max_octaves:g} octaves"
            drift = max(rates) / min(rates)
            part = plain(asked, math.log2(drift) <= max_octaves + 1e-9, said)
        else:
            asked = f"{word}: it falls by {min_octaves:g} octaves or more"
            part = plain(asked, octaves >= min_octaves - 1e-9, said)
        parts.append(_or_invalid(part, by_width))
        for width, part in by_width.items():
            settings = part.along(along)
            values = [list(s.losses.values()) for s in settings.values()]
            lines.append(Line(f"{word} {width}", list(settings), values))
    parts.append(_wider(runs, of, stays, over, widths, along))
    return Judged(parts, Plot(along, NATS, lines, x_scale="log", ringed=True))


def _or_invalid(part: Part, by_width: dict[str, Runs]) -> Part:
    """INVALID where the best rate of a width is the last that was tried."""
    for width, runs in by_width.items():
        for edge in runs.edges:
            why = (
                f"at {width} the best {edge.key}={edge.value} is the {edge.side} tried"
            )
            return Part(part.asked, "INVALID", f"{part.sentence}; {why}")
    return part


def _wider(
    runs: Runs, of: str, stays: str, over: str, widths: tuple[str, ...], along: str
) -> Part:
    """Whether the rate that was best for the narrowest serves each wider one better."""
    narrow = runs.having({of: stays, over: widths[0]})
    rate = narrow.best.first.point.overrides[along]
    means = [
        runs.having({of: stays, over: width}).along(along)[rate].mean
        for width in widths
    ]
    holds = all(after <= before for before, after in itertools.pairwise(means))
    told = ", ".join(f"{mean:.3f}" for mean in means)
    return plain(
        f"{stays}: at the narrowest's best rate wider is never worse",
        holds,
        f"at {along}={rate:g} losses are {told} at {over} {', '.join(widths)}",
    )
