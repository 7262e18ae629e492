"""experiments/: what holds for every file. A new one is tested by being there."""

import json
import math
import os
import pathlib

import jax
import numpy as np
import pytest

from core.axes import axes_of
from core.overrides import resolve
from core.trees import name_of
from launch import load
from optim.links import DECAYED
from tasks import translation
from tests.runs import tiny
from train import mesh as meshes
from train import run
from train.assemble import check
from train.logs import read_metrics
from train.program import program_of
from train.schema import SCHEMA

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / "golden"
NAMES = sorted(
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if "def get_config" in path.read_text()
)
ARRAYS = {
    "pairs": translation.INPUTS,
    "stream": ("input_BL", "target_BL", "segment_BL"),
}
CASES = [(name, options) for name in NAMES for options in ("", ":tiny")]


def config_of(name, options):
    return resolve(load(f"experiments/{name}.py{options}"), {}, SCHEMA)[0]


@pytest.fixture
def golden(request):
    """Compares text with a file, or renews it: UPDATE_GOLDEN=1 pytest tests/..."""

    def compare(name, text):
        if os.environ.get("UPDATE_GOLDEN"):
            (GOLDEN / name).write_text(text)
        return (GOLDEN / name).read_text()

    return compare


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_config_is_whole_and_its_shapes_fit(name, options):
    config = config_of(name, options)
    check(config)
    vocab = config["tokenizer"]["vocab"]
    mesh = meshes.make_mesh()
    program, values = program_of(config, num_steps=5_000, vocab=vocab, mesh=mesh)
    row = {key: np.ones((4, 16), np.int32) for key in ARRAYS[config["packing"]["name"]]}
    assert "loss" in program.score_names(values, row)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_decided_of_each_parameter_is_as_it_was(name, golden):
    config = config_of(name, ":tiny")
    mesh = meshes.make_mesh()
    program, values = program_of(config, num_steps=20, vocab=500, mesh=mesh)
    params = program.shape(values, jax.random.key(0)).params
    lines = jax.tree_util.tree_map_with_path(
        lambda path, leaf, axes, decayed: (
            f"{name_of(path)} {axes} {leaf.shape} decay={decayed} {leaf.sharding.spec}"
        ),
        params,
        axes_of(params),
        DECAYED(params),
    )
    text = "\n".join(jax.tree.leaves(lines)) + "\n"
    assert text == golden(f"{name}_tiny_parameters.txt", text)


def losses_of(folder):
    return {str(line["step"]): line["loss"] for line in read_metrics(folder)}


def test_the_first_losses_are_as_they_were(tmp_path, golden):
    """A change here is a change of results: tell it in CHANGELOG.md."""
    run.train(tiny(model__dropout=0.1, task__smoothing=0.1), str(tmp_path))
    losses = losses_of(tmp_path)
    before = json.loads(golden("localize_tiny.json", json.dumps(losses, indent=1)))
    assert losses == pytest.approx(before, rel=1e-5)


def test_the_first_losses_of_a_text_are_as_they_were(tmp_path, golden):
    """See above; and what is learned is the text, not its padding or its order."""
    words = ["To be", "or not", "to be,", "that is", "the question:\n"]
    bits = np.random.PCG64(0).random_raw(2_000)
    (tmp_path / "text.txt").write_text(" ".join(words[n % 5] for n in bits.tolist()))
    typed = {"data.folder": str(tmp_path), "data.train": "text.txt"}
    config, _ = resolve(load("experiments/shakespeare.py:tiny"), typed, SCHEMA)
    summary = run.train(config, str(tmp_path / "run"))
    losses = losses_of(tmp_path / "run")
    before = json.loads(golden("shakespeare_tiny.json", json.dumps(losses, indent=1)))
    assert losses == pytest.approx(before, rel=1e-5)
    assert summary["val_loss"] < losses["5"] < math.log(24)
