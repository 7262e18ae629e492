"""`curves.png`: what a run's `metrics.jsonl` says, at one look."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from train.logs import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Lines = Sequence[Mapping[str, Any]]


class Panel(NamedTuple):
    """One plot over the steps: which values, in which unit and scale."""

    title: str
    unit: str
    curves: Mapping[str, str]  # name of a value -> its label
    scale: str = "linear"
    from_zero: bool = True


LOSS = Panel(
    "Loss",
    "nats per target token",
    {"loss": "training", "val_loss": "validation"},
    from_zero=False,
)
SMALL = (
    Panel("Learning rate", "rate", {"rate": "rate"}),
    Panel("Gradient norm", "norm", {"grad_norm": "norm"}, scale="log"),
    Panel("Speed", "tokens/s", {"tokens_per_second": "tokens/s"}),
)
COLORS = ("#1f4e79", "#d1732a")
SKIPPED = "#b3261e"


def draw(folder: str | os.PathLike) -> pathlib.Path:
    """Draws loss, learning rate, gradient norm and speed over the steps of a run.

    A panel without numbers is left out; a value that is not finite is a gap. Where the
    count `skipped` rose since the line before, a red line says so.

    Raises:
      FileNotFoundError: the run has logged nothing.
    """
    # Slow to import, and needed once, at the end of a run.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder = pathlib.Path(folder)
    lines = read_metrics(folder)
    small = [p for p in SMALL if any(_points(lines, p, name)[0] for name in p.curves)]

    figure = Figure(figsize=(11, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(folder.resolve().name, x=0.01, ha="left", weight="bold")
    large, *others = _axes(figure, len(small))
    for axes, panel in zip((large, *others), (LOSS, *small), strict=True):
        _plot(axes, panel, lines)
    _mark_skipped(large, lines)
    large.set_xlabel("step")
    if large.get_legend_handles_labels()[0]:
        large.legend(frameon=False)

    path = folder / "curves.png"
    draft = folder / ".curves.draft.png"
    figure.savefig(draft)
    draft.replace(path)
    return path


def _axes(figure: "Figure", num_small: int) -> "list[Axes]":
    """A large plot, and beside it a column of small ones; all share their steps."""
    if not num_small:
        return [figure.add_subplot()]
    grid = figure.add_gridspec(num_small, 2, width_ratios=(2, 1))
    large = figure.add_subplot(grid[:, 0])
    small = [figure.add_subplot(grid[i, 1], sharex=large) for i in range(num_small)]
    for axes in small[:-1]:
        axes.tick_params(labelbottom=False)
    small[-1].set_xlabel("step")
    return [large, *small]


def _plot(axes: "Axes", panel: Panel, lines: Lines) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    for (name, label), color in zip(panel.curves.items(), COLORS, strict=False):
        steps, values = _points(lines, panel, name)
        if steps:
            # Points where they are few, for a curve of one point is no curve.
            dots = {"marker": "o", "markersize": 3} if len(steps) <= 40 else {}
            axes.plot(steps, values, label=label, color=color, linewidth=1.4, **dots)
    axes.set_title(panel.title, loc="left", fontsize="medium")
    axes.set_ylabel(panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if panel.scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    elif panel.from_zero:
        axes.set_ylim(bottom=0)
    if panel.scale == "linear" and max(axes.get_ylim()) >= 1000:
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _points(lines: Lines, panel: Panel, name: str) -> tuple[list[int], list[float]]:
    """Where `name` was logged, and what; a gap where it cannot be drawn."""
    lowest = 0.0 if panel.scale == "log" else -math.inf
    found = {line["step"]: line[name] for line in lines if name in line}
    values = [v if lowest < v < math.inf else math.nan for v in found.values()]
    return (list(found), values) if not all(map(math.isnan, values)) else ([], [])


def _mark_skipped(axes: "Axes", lines: Lines) -> None:
    before, label = 0, None
    total = max((line.get("skipped", 0) for line in lines), default=0)
    for line in lines:
        count = line.get("skipped", before)
        if count > before:
            label = f"{total:.0f} skipped" if label is None else "_"
            axes.axvline(
                line["step"], color=SKIPPED, linewidth=1, alpha=0.6, label=label
            )
        before = count
