"""How pictures look: one colour an arm, thin grids, text that can be read in print."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from study.compare.section import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's, which the colour-blind tell apart, without the yellow that paper eats.
COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b4b8a"),
    *("#7a7a7a", "#8c564b", "#1b7837"),
)
LOST = "#b3261e"
QUIET = "#9aa0a6"
LONGEST = 24  # letters of a name in a plot
WIDTH = 9.2  # inches of a picture over the whole page
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "text.parse_math": False,  # a name may have a dollar
    "svg.hashsalt": "steepest",  # the same picture is the same bytes
}


def color_of(names: Sequence[str], name: str) -> str:
    """The colour of an arm."""
    return COLORS[list(names).index(name) % len(COLORS)]


def picture(
    draw: Callable[..., None],
    alt: str,
    *,
    height: float,
    num: int = 1,
    widths: Sequence[float] = (),
    width: float = WIDTH,
    **options: Any,
) -> Picture:
    """What `draw` puts into `num` plots beside each other, whose `Axes` it is given."""
    # Slow to import, and the reading of runs is done by then.
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        ratios = {"width_ratios": list(widths)} if widths else {}
        axes = figure.subplots(1, num, squeeze=False, gridspec_kw=ratios, **options)
        draw(*axes[0])
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Picture(file.getvalue(), alt)


def log_rate(axes: "Axes", label: str) -> None:
    """A logarithmic axis along the bottom, with plain numbers where they are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    few = high / low < 30
    subs = (1, 2, 5) if few else (1,) if high / low > 1e4 else (1, 3)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def prefixed(axes: "Axes") -> None:
    """Large numbers along the bottom with a prefix: 20 k."""
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def cut(name: str) -> str:
    """A name that leaves room for the plot."""
    half = (LONGEST - 3) // 2
    return name if len(name) <= LONGEST else f"{name[:half]}...{name[-half:]}"


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Rows from the top down, by their names: no grid across, no ticks."""
    axes.set_yticks(range(len(names)), [cut(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def legend_beside(axes: "Axes") -> None:
    """To the right of the plot, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    names = [cut(label) for label in labels]
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.02))
