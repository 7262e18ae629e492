"""The demo, whole: what the README promises of it."""

import pathlib
import subprocess
import sys

import pytest

from train.logs import read_json

ROOT = pathlib.Path(__file__).parent.parent
DEMO = "--config=experiments/localize.py"


@pytest.mark.slow
def test_the_demo_is_exact_on_held_out_pairs(tmp_path):
    for words in (["train", DEMO], ["evaluate"]):
        command = [sys.executable, "launch.py", *words, f"--workdir={tmp_path}"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    summary = read_json(tmp_path / "summary.json")
    assert summary["exact_match"] >= 0.95
    assert summary["copy_exact_match"] < 0.1
