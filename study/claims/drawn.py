"""The picture of a claim: the lines that its criterion compared, with their seeds."""

import math
import pathlib
import statistics
import textwrap
from typing import TYPE_CHECKING

from study.claims.judged import Judged, Line, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f4e79", "#d1732a", "#3a7d44", "#8e3b8a", "#7a7a7a", "#b3261e")
INK = {"PASS": "#3a7d44", "FAIL": "#b3261e", "INVALID": "#7a7a7a"}
FEW = 40  # points of a line, up to which all seeds are dots


def draw(judged: Judged, finding: str, path: pathlib.Path) -> None:
    """Draws what was judged under the finding; nothing where there is no plot."""
    if judged.plot is None:
        return
    # Slow to import, and needed once a claim.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    title = textwrap.fill(finding, 76)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize="medium")
    axes = figure.add_subplot()
    _draw(axes, judged.plot)
    axes.set_title(judged.kind, loc="right", color=INK[judged.kind], weight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft.png")
    figure.savefig(draft)
    draft.replace(path)


def _draw(axes: "Axes", plot: Plot) -> None:
    for number, line in enumerate(plot.lines):
        color = COLORS[number % len(COLORS)]
        means = _line(axes, line, color, dashed=number >= len(COLORS))
        if plot.ringed and any(map(math.isfinite, means)):
            low = min(filter(math.isfinite, means))
            ring = {"mfc": "none", "mec": color, "ms": 10}
            axes.plot(line.x[means.index(low)], low, "o", **ring)
    if math.isfinite(plot.level):
        axes.axhline(plot.level, color="#444444", linewidth=0.8, linestyle="dotted")
    if plot.x_scale != "words":
        axes.set_xscale(plot.x_scale)
    axes.set_yscale(plot.y_scale)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.grid(color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(plot.lines) > 1:
        axes.legend(frameon=False, fontsize="small")


def _line(axes: "Axes", line: Line, color: str, *, dashed: bool) -> list[float]:
    """The means over finite seeds as a line, the seeds as dots where points are few."""
    means = []
    for x, values in zip(line.x, line.values, strict=True):
        finite = [value for value in values if math.isfinite(value)]
        means.append(statistics.fmean(finite) if finite else math.nan)
        if len(line.x) <= FEW:
            axes.plot([x] * len(finite), finite, "o", color=color, ms=3, alpha=0.35)
    style = "dashed" if dashed else "solid"
    marker = "" if len(line.x) > FEW else "o"
    axes.plot(
        line.x, means, marker, ls=style, color=color, ms=4, lw=1.4, label=line.name
    )
    return means
