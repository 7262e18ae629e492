"""The learning-rate range test: what a run of the schedule `range_test` suggests."""

import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from core.exits import NUMERICS, Stop
from core.types import Config
from train.keeper import Enough
from train.logs import read_metrics

DIVERGED = 4.0  # times the lowest mean: the loss is lost
MEMORY = 0.9  # of the mean that says so
WIDTH_SHARE = 0.02  # of the points: the standard deviation of the smoothing


class Found(NamedTuple):
    """What the loss was at which rate, before it diverged; None: it never fell."""

    rates: np.ndarray
    smoothed: np.ndarray
    suggested_rate: float | None
    lowest_rate: float | None


def is_range_test(config: Config) -> bool:
    """Whether a run of this config is a test of rates."""
    return config["optim"]["schedule"]["name"] == "range_test"


def until_numerics(hook: Callable[..., None]) -> Callable[..., None]:
    """`hook`, for which the end of a run by its numerics guard is no error.

    A test is to find the rate at which training fails, and then has seen enough.
    """

    def call(*args):
        try:
            hook(*args)
        except Stop as stop:
            if stop.code == NUMERICS:
                raise Enough(str(stop)) from stop
            raise

    return call


def suggest(rates: Sequence[float], losses: Sequence[float]) -> Found:
    """The rate at which the smoothed loss falls fastest, by the rate's logarithm.

    Of the points before it diverges (is no number, or four times the lowest mean) and,
    of these, up to its lowest. Smoothed from both sides, so that no rate is blamed for
    what earlier ones did. The rate of the lowest is found beside it: where the loss
    falls first by what is easy, a tenth of that is the better guess.
    Source: Smith 2015, https://arxiv.org/abs/1506.01186, section 3.3; the steepest
    fall is fastai's choice.
    """
    kept = _before_divergence(losses)
    tried = np.asarray(rates[:kept])
    smoothed = _smoothed(np.asarray(losses[:kept]), max(1.0, WIDTH_SHARE * len(losses)))
    lowest = int(np.argmin(smoothed)) if kept else 0
    if lowest == 0:
        return Found(tried, smoothed, None, None)
    slope = np.gradient(smoothed, np.log(tried))
    steepest = int(np.argmin(slope[: lowest + 1]))
    return Found(tried, smoothed, float(tried[steepest]), float(tried[lowest]))


def draw(folder: str | os.PathLike) -> dict[str, float | None]:
    """Draws `range_test.png`, loss against rate, and returns what it suggests.

    Raises:
      FileNotFoundError: the run has logged nothing.
    """
    # Slow to import, and needed once, at the end of a run.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder = pathlib.Path(folder)
    lines = read_metrics(folder)
    rates, losses = ([line[key] for line in lines] for key in ("rate", "loss"))
    found = suggest(rates, losses)
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    finite = [loss if math.isfinite(loss) else math.nan for loss in losses]
    axes.plot(rates, finite, color="#b9c4cf", linewidth=1.0, label="loss")
    axes.plot(found.rates, found.smoothed, color="#1f4e79", label="smoothed")
    if found.suggested_rate and found.lowest_rate:
        label = f"steepest fall: {found.suggested_rate:.2g}"
        axes.axvline(found.suggested_rate, color="#d1732a", label=label)
        label = f"lowest: {found.lowest_rate:.2g}; try a tenth"
        axes.axvline(found.lowest_rate, color="#d1732a", linestyle=":", label=label)
    axes.set_xscale("log")
    if len(found.smoothed):  # show the fall; how high it goes after it tells nothing
        fall = found.smoothed[: np.argmin(found.smoothed) + 1]
        margin = 0.3 * np.ptp(fall) or 1.0
        axes.set_ylim(fall.min() - margin, fall.max() + margin)
    axes.set(xlabel="learning rate", ylabel="nats per target token")
    axes.set_title(folder.resolve().name, loc="left", fontsize="medium")
    axes.legend(frameon=False)
    path, draft = folder / "range_test.png", folder / ".range_test.draft.png"
    figure.savefig(draft)
    draft.replace(path)
    return dict(suggested_rate=found.suggested_rate, lowest_rate=found.lowest_rate)


def _before_divergence(losses: Sequence[float]) -> int:
    """How many losses there are before it."""
    mean, lowest = 0.0, math.inf
    for number, loss in enumerate(losses):
        if not math.isfinite(loss):
            return number
        mean = MEMORY * mean + (1 - MEMORY) * loss
        average = mean / (1 - MEMORY ** (number + 1))
        lowest = min(lowest, average)
        if average > DIVERGED * lowest:
            return number
    return len(losses)


def _smoothed(values: np.ndarray, width: float) -> np.ndarray:
    """Means weighted by a bell about each point."""
    places = np.arange(len(values))
    weights = np.exp(-((places[:, None] - places[None]) ** 2) / (2 * width**2))
    return weights @ values / weights.sum(1)
