"""train/evaluated.py and early ends, in whole runs of the tiny language model."""

import jax
import numpy as np
import pytest

from core.exits import Stop
from tests.runs import PLAIN, reading
from tests.test_run import assert_same_run, lines_of
from train import run
from train.assemble import assemble, inputs_of, validate
from train.checkpoints import Checkpoints
from train.evaluated import evaluated
from train.folder import Folder
from train.keeper import Best
from train.logs import read_json
from train.preemption import Preemption
from train.soup import of_runs
from train.trained import Trained

# One program for all: what differs from test to test are numbers and lengths.
AVERAGED = PLAIN | dict(
    optim__average__name="ema",
    optim__average__decay=0.8,
    optim__schedule__name="constant",
    optim__schedule__peak=0.3,
    checkpoint__every_steps=4,
    checkpoint__keep=3,
)
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run that keeps an average, from start to end."""
    folder = tmp_path_factory.mktemp("averaged")
    run.train(reading(**AVERAGED), str(folder))
    return folder


def state_at(folder, step):
    """The whole state of a checkpoint, and what is needed to score it."""
    parts = assemble(reading(**AVERAGED))
    inputs = inputs_of(parts)
    shape = parts.program.shape(inputs.values, inputs.key)
    with Checkpoints(folder / "checkpoints", every_steps=1, read_only=True) as kept:
        return kept.restore(shape, step)[1], parts, inputs


def loss_of(parts, params, inputs):
    mean = validate(parts, params, inputs)["loss"]
    return float(mean.total) / float(mean.weight)


def test_a_run_reports_the_loss_of_the_average_and_its_folder_gives_the_same(averaged):
    reported = read_json(averaged / "summary.json")["val_loss"]
    state, parts, inputs = state_at(averaged, "latest")
    assert loss_of(parts, evaluated(state), inputs) == reported
    assert abs(loss_of(parts, state.params, inputs) - reported) > 0.05
    trained = Trained(Folder(averaged), "latest")
    prepared = trained.prepared("validation")
    again = trained.scores(prepared, "validation")["loss"]
    assert again == pytest.approx(reported, rel=1e-6)
    for leaf, other in zip(
        jax.tree.leaves(trained.params), jax.tree.leaves(state.params), strict=True
    ):
        assert (leaf.dtype, leaf.sharding) == (other.dtype, other.sharding)


@pytest.mark.slow  # the average is a part of the state, which tests/test_run.py resumes
def test_an_interrupted_run_with_an_average_is_the_same_to_the_bit(
    averaged, tmp_path, monkeypatch
):
    config = reading(**AVERAGED)
    monkeypatch.setattr(Preemption, "asked", lambda _, step: step == 7)
    with pytest.raises(Stop, match="Saved step 7"):
        run.train(config, str(tmp_path))
    monkeypatch.undo()
    run.train(config, str(tmp_path))
    assert_same_run(averaged, tmp_path, config)


def test_another_run_starts_from_the_average_and_so_does_its_optimizer(
    averaged, tmp_path
):
    parts = assemble(reading(**AVERAGED, init_from=str(averaged)))
    with Checkpoints(tmp_path, every_steps=1) as none_yet:
        state = run._first_state(parts, inputs_of(parts), none_yet)
    best = Trained(Folder(averaged), "best").params
    for found in (state.params, evaluated(state)):
        jax.tree.map(np.testing.assert_array_equal, found, best)
    assert int(state.step) == 0


def test_a_run_of_another_shape_is_refused_and_names_the_leaf(averaged, tmp_path):
    config = reading(**AVERAGED, init_from=str(averaged), model__width=64)
    with pytest.raises(ValueError, match=r"^/params/\S+ has shape \(.* and \(.* here"):
        run.train(config, str(tmp_path))


def test_the_mean_of_the_last_checkpoints_is_evaluated_as_asked(averaged):
    trained = [Trained(Folder(averaged), which) for which in (16, 20, "average:2")]
    leaves = [jax.tree.leaves(each.params) for each in trained]
    for *each, mean in zip(*leaves, strict=True):
        wanted = np.mean([np.asarray(x) for x in each], axis=0, dtype=np.float64)
        np.testing.assert_allclose(mean, wanted, rtol=0, atol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"average:9 needs 9 .*keep=9\.$"):
        Trained(Folder(averaged), "average:9")


def test_a_soup_of_runs_is_no_worse_than_the_best_of_them(averaged, tmp_path):
    whole, names = of_runs([str(averaged), str(averaged)], checkpoint=12)
    assert names == [str(averaged)] * 2
    trained = Trained(Folder(averaged), 12)
    jax.tree.map(np.testing.assert_array_equal, whole, trained.params)
    tried, _ = of_runs([str(averaged)] * 2, one_by_one=True)
    prepared = trained.prepared("validation")
    best = Trained(Folder(averaged)).scores(prepared, "validation")["loss"]
    assert trained.scores_of(tried, prepared, "validation")["loss"] <= best


EARLY = AVERAGED | dict(
    optim__schedule__peak=1e-30, evaluate__every_steps=2, evaluate__patience=2
)


def test_a_run_out_of_patience_ends_early_and_stays_so_until_it_gets_more(
    tmp_path, monkeypatch, capsys
):
    config = reading(**EARLY, num_steps=10)
    monkeypatch.setattr(Preemption, "asked", lambda _, step: step == 5)
    with pytest.raises(Stop, match="Saved step 5"):
        run.train(config, str(tmp_path))
    monkeypatch.undo()
    summary = run.train(config, str(tmp_path))
    assert (summary["steps"], summary["stopped_early"]) == (6, True)
    assert "Ended early: val_loss has not improved for 2" in capsys.readouterr().out
    lines = lines_of(tmp_path)
    assert lines[-1]["step"] == 6
    assert lines[-1]["val_loss"] == lines[0]["val_loss"]
    assert Checkpoints(tmp_path / "checkpoints", every_steps=1).durable_step == 6

    again = run.train(config, str(tmp_path))
    assert (again, lines_of(tmp_path)) == (summary, lines)
    (tmp_path / "summary.json").unlink()  # as if killed before it was written
    assert run.train(config, str(tmp_path))["steps"] == 6

    more = reading(**EARLY | dict(evaluate__patience=0), num_steps=10)
    summary = run.train(more, str(tmp_path))
    assert (summary["steps"], summary["stopped_early"]) == (10, False)


def test_patience_counts_scores_without_a_new_best_and_nan_is_none():
    best = Best("val_loss", 2, [{"val_loss": 3.0}, {"loss": 1.0}, {"val_loss": 4.0}])
    assert not best.enough
    assert best.saw({"val_loss": 2.0})
    assert not best.saw({"val_loss": float("nan")})
    assert not best.enough
    assert not best.saw({"val_loss": 2.0})
    assert best.enough
    assert best.saw({"val_loss": 1.0})
    assert not best.enough
    patient = Best("val_exact_match", 0, [{"val_exact_match": 0.5}] * 9)
    assert not patient.enough
    assert patient.saw({"val_exact_match": 0.6})


def test_patience_without_evaluations_is_refused():
    with pytest.raises(ValueError, match=r"^evaluate\.patience=3 needs evaluate\."):
        reading(evaluate__patience=3, evaluate__every_steps=0)
