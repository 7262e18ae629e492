"""`sweep.png`: how the loss depends on each axis of a sweep, at one look."""

import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from study.outcomes import METRIC, Outcome
from study.table import ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
DOT, BEST = "#9db4c8", "#d1732a"


def draw(sweep: pathlib.Path, outcomes: Sequence[Outcome]) -> pathlib.Path | None:
    """A panel an axis: every trial as a dot, and those of the best setting in colour.

    None where nothing that ended differs, or has a loss.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    done = [x for x in outcomes if math.isfinite(x.value)]
    keys = [
        key for key in _keys(done) if len({x.point.overrides[key] for x in done}) > 1
    ]
    if not done or not keys:
        return None
    rows = -(-len(keys) // COLUMNS)
    columns = min(len(keys), COLUMNS)
    size = (4.2 * columns, 3.4 * rows + 0.4)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    best = next(iter(ranked(outcomes)), [])  # none while each setting lacks a seed
    lost = len([x for x in outcomes if x.state != "done"])
    title = f"{sweep.resolve().name}: {len(done)} trials done"
    figure.suptitle(
        title + (f", {lost} not" if lost else ""), x=0.01, ha="left", weight="bold"
    )
    top = _top([x.value for x in done])
    for number, key in enumerate(keys):
        axes = figure.add_subplot(rows, columns, number + 1)
        _panel(axes, key, done, {x.point.id for x in best}, top)
    path, draft = sweep / "sweep.png", sweep / ".sweep.draft.png"
    figure.savefig(draft)
    draft.replace(path)
    return path


def _keys(outcomes: Sequence[Outcome]) -> list[str]:
    """The keys that all of the points set."""
    sets = [outcome.point.overrides.keys() for outcome in outcomes]
    return [key for key in (sets[0] if sets else ()) if all(key in s for s in sets)]


def _top(values: Sequence[float]) -> float:
    """The highest loss drawn in its place: bad trials do not flatten the good ones."""
    lowest, middle = min(values), sorted(values)[len(values) // 2]
    return lowest + 3 * max(middle - lowest, 0.01)


def _panel(
    axes: "Axes", key: str, done: Sequence[Outcome], best: set[str], top: float
) -> None:
    values: list[Any] = [x.point.overrides[key] for x in done]
    numbers = all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )
    words = [] if numbers else sorted({str(value) for value in values})
    at = values if numbers else [words.index(str(value)) for value in values]
    order = sorted(range(len(done)), key=lambda n: done[n].point.id in best)
    inside = [n for n in order if done[n].value <= top]
    beyond = [n for n in order if done[n].value > top]
    shown = [done[n].value for n in inside]
    colors = [BEST if done[n].point.id in best else DOT for n in inside]
    axes.scatter([at[n] for n in inside], shown, c=colors, s=14)
    if beyond:
        most = max(done[n].value for n in beyond)
        label = f"{len(beyond)} above, up to {most:.3g}"
        places = [at[n] for n in beyond], [top] * len(beyond)
        axes.scatter(*places, c=DOT, s=26, marker="^", label=label)
        below = {"loc": "upper left", "bbox_to_anchor": (0, -0.1)}  # hides no dot
        axes.legend(frameon=False, fontsize="small", **below)
    if words:
        axes.set_xticks(range(len(words)), words)
    elif min(values) > 0 and max(values) / min(values) >= 8:
        axes.set_xscale("log")
    axes.set_ylim(top=top + 0.04 * (top - min(shown)))
    axes.set_title(key, loc="left", fontsize="medium")
    axes.set_ylabel(f"{METRIC}, nats")
    axes.grid(color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
