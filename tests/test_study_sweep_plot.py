"""study/sweep_plot.py: no loss is drawn where it is not."""

import math

import pytest
from matplotlib.figure import Figure

from study import sweep_plot
from study.outcomes import Outcome
from study.point import Point

RATE = "optim.schedule.peak"


def outcomes(folder, losses):
    return [
        Outcome(Point({RATE: rate}, 0), folder, "done", 400, loss, {})
        for rate, loss in losses.items()
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures, which are not written."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: figures.append(self))
    monkeypatch.setattr("pathlib.Path.replace", lambda self, other: other)
    return figures


def test_losses_above_the_plot_are_marked_counted_and_named(tmp_path, drawn):
    losses = {1e-3: 2.4, 1e-2: 2.3, 1e-1: 2.5, 1.0: 9.0, 2.0: 7.5}
    sweep_plot.draw(tmp_path, outcomes(tmp_path, losses))
    (axes,) = drawn[0].axes
    dots, arrows = axes.collections
    at = dict(dots.get_offsets().tolist())
    assert at == {1e-3: 2.4, 1e-2: 2.3, 1e-1: 2.5}
    assert [rate for rate, _ in arrows.get_offsets()] == [1.0, 2.0]
    (label,) = axes.get_legend().get_texts()
    assert label.get_text() == "2 above, up to 9"


def test_without_such_losses_there_is_no_legend(tmp_path, drawn):
    sweep_plot.draw(tmp_path, outcomes(tmp_path, {1e-3: 2.4, 1e-2: 2.3}))
    (axes,) = drawn[0].axes
    assert axes.get_legend() is None


def test_while_each_setting_lacks_a_seed_none_is_the_best(tmp_path):
    done = outcomes(tmp_path, {1e-3: 2.4, 1e-2: 2.3})
    going = [
        x._replace(point=x.point._replace(seed=1), state="running", value=math.nan)
        for x in done
    ]
    assert sweep_plot.draw(tmp_path, [*done, *going]).is_file()


@pytest.mark.parametrize("losses", [{}, {1e-3: 2.4}])
def test_there_is_no_picture_of_one_value(losses, tmp_path):
    assert sweep_plot.draw(tmp_path, outcomes(tmp_path, losses)) is None
