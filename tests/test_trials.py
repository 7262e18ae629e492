"""train/trials.py: a trial out of many is the trial run alone; and which are one."""

import jax
import numpy as np
import pytest

from data.batches import in_order
from study.groups import grouped
from tests.runs import tiny
from train import mesh as meshes
from train.assemble import assemble, inputs_of, validate
from train.loop import total
from train.program import program_of
from train.step import eval_params
from train.trials import Trials, padded, trial_mesh

NUM_STEPS, STRIDE = 20, 5
USUAL = dict(num_steps=NUM_STEPS, model__dropout=0.1, optim__decay=0.1)
TRIALS = (
    dict(),
    dict(optim__schedule__peak=1e-2, model__dropout=0.3),
    dict(seed=1),
    dict(model__dropout=0.0, optim__schedule__warmup_steps=5),
    dict(optim__decay=0.0, optim__clip_norm="inf", seed=2),
)


def alone(config):
    """The losses of each stride's last step, then that of validation."""
    parts = assemble(config)
    inputs = inputs_of(parts)
    state = parts.program.init(inputs.values, inputs.key)
    step, found = parts.program.compile_step(state, *inputs), []
    for number in range(NUM_STEPS):
        batch = meshes.place_rows(parts.mesh, parts.batches.batch(number))
        state, scores = step(state, batch, inputs.key, inputs.values)
        found.append(float(scores["loss"].value))
    last = validate(parts, eval_params(state), inputs)["loss"].value
    return np.array([*found[STRIDE - 1 :: STRIDE], float(last)])


def together(configs, batches, rows, *, shared):
    """The same of all of them in one program."""
    (group,) = grouped(configs)
    mesh, options = trial_mesh(), dict(num_steps=NUM_STEPS, vocab=vocab_of(configs[0]))
    pairs = [program_of(c, mesh=mesh, on=group.on, **options) for c in configs]
    (program,) = {program for program, _ in pairs}
    trials, num_devices = Trials(program), jax.device_count()
    values = trials.place(padded([values for _, values in pairs], num_devices))
    keys = trials.keys(padded([config["seed"] for config in configs], num_devices))
    states, found = trials.init(values, keys), []
    every = padded(batches, num_devices)
    for first in range(0, NUM_STEPS, STRIDE):
        strides = [stacked(one, first) for one in (every[:1] if shared else every)]
        batch = strides[0] if shared else trials.place(strides)
        states, scores = trials.steps(states, batch, keys, values, shared=shared)
        found.append(scores["loss"].value)
    params = eval_params(states)
    last = total(trials.score(params, batch, keys, values) for batch in rows)
    found.append(last["loss"].value)
    return np.array(found).T[: len(configs)]


def stacked(batches, first):
    made = [batches.batch(number) for number in range(first, first + STRIDE)]
    return jax.tree.map(lambda *parts: np.stack(parts), *made)


def vocab_of(config):
    return assemble(config).prepared.tokenizer.vocab


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_trial_out_of_many_has_the_losses_of_the_trial_alone(shared):
    configs = [tiny(**USUAL | trial) for trial in TRIALS]
    if shared:  # the seed of a run is that of its batches
        configs = [config for config in configs if config["seed"] == 0]
    parts = [assemble(config) for config in configs]
    rows = parts[0].prepared.rows["validation"]
    validation = list(in_order(rows, batch_size=configs[0]["batch_size"]))
    batches = [part.batches for part in parts]
    found = together(configs, batches, validation, shared=shared)
    np.testing.assert_allclose(found, [*map(alone, configs)], rtol=1e-5)
    assert len(np.unique(found[:, -2])) == len(configs)


@pytest.mark.slow
def test_a_trial_that_diverges_does_not_touch_the_others():
    calm, wild = tiny(**USUAL), tiny(**USUAL | dict(optim__schedule__peak=1e9))
    batches = [assemble(calm).batches] * 2
    rows = [batches[0].batch(0)]
    both = together([calm, wild], batches, rows, shared=True)
    twice = together([calm, calm], batches, rows, shared=True)
    np.testing.assert_array_equal(both[0], twice[0])
    assert not np.allclose(both[1], both[0], rtol=0.5)


def test_trials_that_differ_in_inputs_and_seeds_are_one_group():
    configs = [tiny(**USUAL | trial) for trial in TRIALS]
    other = [tiny(**USUAL | dict(optim__rule__name="lion"))]
    longer = [tiny(**USUAL | dict(batch_size=16))]
    groups = grouped([*configs[:2], *other, *configs[2:], *longer])
    assert [group.trials for group in groups] == [(0, 1, 3, 4, 5), (2,), (6,)]
    assert {"model.dropout", "optim.decay", "optim.clip_norm"} <= groups[0].on
