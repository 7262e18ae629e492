"""train/keeper.py: which steps are saved."""

from types import SimpleNamespace

import pytest

from train.keeper import Best, Keeper

NAN = float("nan")


class Shelf:
    """Checkpoints that only note which steps they were given."""

    def __init__(self):
        self.steps = []

    def due(self, step):
        return False

    def save(self, step, state, scores, facts):
        self.steps.append(step)


def keeper_of(shelf, report, *, best="val_loss", past=(), num_steps=99):
    return Keeper(
        shelf,
        report,
        SimpleNamespace(sync=lambda: None),
        SimpleNamespace(asked=lambda step: False),
        None,
        best=Best(best, 0, [{best: score} for score in past]),
        num_steps=num_steps,
    )


def kept(scores, *, best="val_loss", past=()):
    """The steps that are saved of a run with a score at each step."""
    shelf, report = Shelf(), SimpleNamespace(validated_step=0, validated={})
    keeper = keeper_of(shelf, report, best=best, past=past)
    for step, score in enumerate(scores, 1):
        report.validated_step, report.validated = step, {best: score}
        keeper(step, None, {})
    return shelf.steps


@pytest.mark.parametrize(
    ("scores", "past", "steps"),
    [
        ([3.0, 2.0, 2.5, 2.0, 1.0], [], [1, 2, 5]),
        ([3.0, 1.0], [2.0], [2]),
        ([3.0, NAN, 2.0, NAN, 1.0], [], [1, 3, 5]),
        ([NAN, 3.0], [], [2]),
        ([3.0, 1.0], [NAN, 2.0], [2]),
        ([3.0, 1.0], [2.0, NAN], [2]),
    ],
)
def test_a_step_is_saved_where_its_score_is_the_best_and_nan_never_is(
    scores, past, steps
):
    assert kept(scores, past=past) == steps


def test_of_some_scores_more_is_better():
    assert kept([0.1, 0.3, 0.2, 0.4], best="val_accuracy") == [1, 2, 4]


def test_steps_without_a_score_of_their_own_are_not_the_best():
    shelf = Shelf()
    report = SimpleNamespace(validated_step=1, validated={"val_loss": 1.0})
    keeper = keeper_of(shelf, report, num_steps=3)
    for step in (1, 2, 3):
        keeper(step, None, {})
    assert shelf.steps == [1, 3]  # the best, and the last
