"""Trials of one program: each is the trial run alone; and which trials are one."""

import jax
import numpy as np
import pytest

from core.exits import PREEMPTED, Stop
from core.settings import load
from study import outcomes
from study.groups import grouped
from study.search.wanted import Search
from study.sweep import run
from tests.runs import PLAIN, reading
from train.checkpoints import Checkpoints
from train.logs import read_metrics
from train.run import train
from train.trials import Trials

BASE = dict(num_steps=20, log_every=5, evaluate__every_steps=10, model__dropout=0.1)
SMALL = PLAIN | dict(num_steps=12, evaluate__every_steps=4, log_every=4)
PEAKS = {"optim.schedule.peak": [1e-2, 2e-2, 1e-1]}
AXES = {
    "rate": dict(
        blocks={
            "usual": {},
            "high": {"optim.schedule.peak": 1e-2, "model.dropout": 0.3},
            "late": {"model.dropout": 0.0, "optim.schedule.warmup_steps": 5},
        }
    )
}


def losses(folder):
    """All that a run logged of its losses, by step."""
    lines = read_metrics(folder)
    return np.array(
        [x[name] for x in lines for name in ("loss", "val_loss") if name in x]
    )


def swept(config, folder, axes, seeds=2):
    stated = dict(axes=axes, seeds=seeds)
    return run(config, stated, folder, search=Search())


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "rtol"), [(20, 1e-5), (200, 1e-3)])
def test_a_trial_out_of_many_has_the_losses_of_the_trial_alone(
    tmp_path, num_steps, rtol
):
    base = BASE | dict(num_steps=num_steps, optim__decay=0.1)
    found = swept(reading(**base), tmp_path / "sweep", AXES)
    assert [x.state for x in found] == ["done"] * 6
    for trial in found:
        texts = {key.replace(".", "__"): v for key, v in trial.point.overrides.items()}
        config = reading(**base | texts | {"seed": trial.point.seed})
        alone = tmp_path / trial.point.id
        train(config, str(alone))
        np.testing.assert_allclose(losses(trial.folder), losses(alone), rtol=rtol)
    assert len({x.value for x in found}) == 6


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A sweep of six trials on four devices, three of each seed."""
    config = reading(**SMALL)
    folder = tmp_path_factory.mktemp("sweep")
    return config, folder, swept(config, folder, PEAKS)


def test_every_trial_is_a_run_folder_of_its_own(small):
    _, folder, found = small
    assert [(x.state, x.steps) for x in found] == [("done", 12)] * 6
    assert len({x.value for x in found}) == 6
    for trial in found:
        lines = read_metrics(trial.folder)
        assert [line["step"] for line in lines] == [4, 8, 12]
        assert trial.summary["val_loss"] == lines[-1]["val_loss"] == trial.value
        steps = Checkpoints(trial.folder / "checkpoints", every_steps=1, read_only=True)
        assert steps.durable_step == 12
    assert outcomes.read(folder) == found


def test_a_trial_has_the_losses_of_its_config_run_alone(small, tmp_path):
    trial = small[2][-1]
    assert trial.point.seed == 1
    train(load(trial.folder / "config.json"), str(tmp_path))
    np.testing.assert_allclose(losses(trial.folder), losses(tmp_path), rtol=1e-5)


def test_a_sweep_that_is_done_does_nothing_more(small, monkeypatch):
    config, folder, found = small
    monkeypatch.setattr(Trials, "steps", None)
    assert swept(config, folder, PEAKS) == found


def test_a_folder_takes_no_other_sweep(small):
    config, folder, _ = small
    with pytest.raises(ValueError, match="holds another sweep: its space"):
        swept(config, folder, PEAKS, seeds=3)


def test_a_sweep_that_is_asked_to_leave_saves_all_and_goes_on_to_the_same_bits(
    small, tmp_path, monkeypatch
):
    config, _, whole = small
    with monkeypatch.context() as patch:
        patch.setattr("train.preemption.Preemption.asked", lambda self, step: step == 8)
        with pytest.raises(Stop, match="Saved step 8") as stop:
            swept(config, tmp_path, PEAKS)
    assert stop.value.code == PREEMPTED
    assert {(x.state, x.steps) for x in outcomes.read(tmp_path)} == {("running", 8)}
    again = swept(config, tmp_path, PEAKS)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(losses(one.folder), losses(other.folder))


def test_a_trial_that_diverges_ends_alone(small, tmp_path):
    config, _, usual = small
    # By their names the wild ones come first, so the others move to their places.
    wild = {"optim.decay": 0.0, "optim.schedule.peak": 1e30}
    axes = {"way": dict(blocks={"calm": PEAKS, "wild": wild})}
    guarded = {**config, "guard": {**config["guard"], "max_streak": 2}}
    found = swept(guarded, tmp_path, axes)
    states = [(x.point.overrides["optim.schedule.peak"], x.state) for x in found]
    assert {state for peak, state in states if peak == 1e30} == {"diverged"}
    assert {state for peak, state in states if peak < 1} == {"done"}
    by_id = {x.point.id: x for x in found}
    for trial in usual:
        folder = by_id[trial.point.id].folder
        np.testing.assert_allclose(losses(folder), losses(trial.folder), rtol=1e-5)


def test_trials_are_cut_into_as_many_programs_as_memory_asks_for(
    small, tmp_path, monkeypatch
):
    sizes, steps = [], Trials.steps
    needed = []

    def measured(self, *args):
        needed.append(jax.tree.leaves(args[0])[0].shape[0])
        return needed[-1]

    def counted(self, state_T, *args):
        sizes.append(len(state_T.step))
        return steps(self, state_T, *args)

    monkeypatch.setattr(Trials, "memory_bytes", measured)
    monkeypatch.setattr("study.pack.free_bytes", lambda: 4)
    monkeypatch.setattr(Trials, "steps", counted)
    found = swept(small[0], tmp_path, PEAKS)
    assert needed[0] == 8
    assert set(sizes) == {4}
    assert {x.state for x in found} == {"done"}


def test_trials_that_differ_in_inputs_and_seeds_are_one_group():
    trials = (
        dict(),
        dict(optim__schedule__peak=1e-2, model__dropout=0.3),
        dict(seed=1),
        dict(model__dropout=0.0, optim__schedule__warmup_steps=5),
        dict(optim__decay=0.0, optim__clip_norm="inf", seed=2),
    )
    usual = dict(num_steps=20, model__dropout=0.1, optim__decay=0.1)
    configs = [reading(**usual | trial) for trial in trials]
    other = [reading(**usual | dict(optim__rule__name="lion"))]
    longer = [reading(**usual | dict(batch_size=16))]
    groups = grouped([*configs[:2], *other, *configs[2:], *longer])
    assert [group.trials for group in groups] == [(0, 1, 3, 4, 5), (2,), (6,)]
    assert {"model.dropout", "optim.decay", "optim.clip_norm"} <= groups[0].on
