"""train/generate.py, evaluate.py: a trained run answers, and its scores are kept."""

import json

import jax
import numpy as np
import pytest

from core.refusal import LIMIT
from tests.runs import tiny
from train import mesh as meshes
from train import run
from train.evaluate import evaluate
from train.folder import Folder
from train.generate import generate, predict
from train.logs import read_json
from train.trained import Trained

COMPILED = "/jax/core/compile/backend_compile_duration"
TEXTS = ["Tue, Sep 4, 1973", "", "in 833 minutes", "9 hectares and a bit of it" * 4]
SAMPLE = {"decode.name": "sample", "decode.num_samples": "2", "decode.top_p": "0.9"}
BEAM = {"decode.name": "beam", "decode.beam": "3", "decode.num_best": "3"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run from start to end."""
    folder = tmp_path_factory.mktemp("run")
    run.train(tiny(num_steps=8), str(folder))
    return folder


@pytest.fixture(scope="module")
def compiles():
    """A list that grows by every compiled program."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: seen.append(event) if event == COMPILED else None
    )
    yield seen
    jax.monitoring.clear_event_listeners()


def answers_of(folder, texts, **overrides):
    """In the order of the texts."""
    return dict(generate(Trained(Folder(folder), overrides=overrides), texts))


def test_a_run_is_evaluated(folder, capsys):
    scores = evaluate(str(folder), split="validation")
    summary = read_json(folder / "summary.json")
    assert summary["evaluations"]["validation"] == scores
    assert summary["exact_match"] == scores["exact_match"]
    assert {"bleu", "chrf", "copy_bleu", "bleu_signature"} <= summary.keys()
    assert scores["loss"] == pytest.approx(summary["val_loss"], rel=1e-5)
    assert summary["loss"] != scores["loss"]  # the former is of training
    lines = (folder / "predictions/validation.jsonl").read_text().splitlines()
    assert len(lines) == 500
    assert json.loads(lines[0]).keys() == {"source", "prediction", "reference"}
    out = capsys.readouterr().out
    assert summary["bleu_signature"] in out
    assert f"loss  {scores['loss']:.4g}" in out
    few = {"decode.max_tokens": "1"}
    other = evaluate(str(folder), split="validation", overrides=few)
    assert other["decode"]["max_tokens"] == 1
    assert other["loss"] == scores["loss"]
    assert other["chrf"] != scores["chrf"]


@pytest.mark.parametrize("overrides", [BEAM, SAMPLE], ids=["beam", "sample"])
def test_an_answer_depends_neither_on_other_lines_nor_on_devices(
    folder, overrides, monkeypatch
):
    one_by_one = list(predict(str(folder), TEXTS, overrides=overrides))
    monkeypatch.setattr(meshes, "devices", lambda: jax.devices()[:1])
    together = answers_of(folder, TEXTS, **overrides)
    assert together.keys() == set(range(4))
    for number, alone in enumerate(one_by_one):
        beside = together[number]
        assert [a.text for a in alone] == [a.text for a in beside]
        scores = [[a.score for a in answers] for answers in (alone, beside)]
        np.testing.assert_allclose(*scores, rtol=1e-4)
    named = overrides.get("decode.num_samples", overrides.get("decode.num_best"))
    assert {len(answers) for answers in one_by_one} == {int(named)}
    assert len({answer.text for answers in one_by_one for answer in answers}) > 4


def test_few_programs_are_compiled_and_none_for_a_number(folder, compiles):
    trained = Trained(Folder(folder), overrides={**SAMPLE, "decode.batch_size": "4"})
    lines = ["in 833 minutes", "Tue, Sep 4, 1973", "9 hectares", "5 May"] * 2
    before = dict(generate(trained, lines))
    compiles.clear()
    dict(generate(trained, [line + " ago" for line in lines]))
    assert compiles == [], "texts of such lengths, and as many, had their programs"
    changed = {"decode.seed": "1"}, {"decode.top_p": "0.8"}
    for change in changed:
        again = Trained(
            Folder(folder), overrides={**SAMPLE, "decode.batch_size": "4", **change}
        )
        compiles.clear()
        assert dict(generate(again, lines)) != before
        assert compiles == [], f"{change} compiled"
    compiles.clear()
    dict(generate(trained, ["one two three " * 9] * 3))
    assert len(compiles) == 2, "longer texts: one to read them, one to answer"


def test_the_cache_is_given_away_and_the_rows_lie_on_their_devices(folder):
    trained, room = Trained(Folder(folder)), 8
    batch, _ = trained.task.ask([[5, 6, 7]] * 8, max_tokens=room)
    batch |= {"number_B": np.arange(8, dtype=np.int32)}
    placed = meshes.place_rows(trained.mesh, batch)
    number_B = placed.pop("number_B")
    inputs = trained.params, placed, trained.values
    opening = trained.program.prefill(*inputs, beams=1, room=room)
    leaves = [leaf for leaf in jax.tree.leaves(opening.cache) if leaf.ndim]
    assert all(leaf.sharding == meshes.rows(trained.mesh) for leaf in leaves)
    key = jax.device_put(jax.random.key(0), meshes.everywhere(trained.mesh))
    decoding = trained.decoding
    found = trained.program.decode(
        trained.params, opening, key, number_B, trained.values, decoding, room=room
    )
    assert found.token_BRT.shape == (8, 1, room)
    assert all(leaf.is_deleted() for leaf in leaves if leaf.size)
    assert not opening.first_B.is_deleted()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"decode.beam": "2"}, "decode.beam='2' is not known. Did you mean"),
        ({"decode.name": "beem"}, "decode.name='beem' is not known. Did you mean"),
        ({**BEAM, "decode.num_best": "4"}, "num_best=4 must be at most decode.beam"),
        ({"decode.name": "sample", "decode.temperature": "0"}, "decode.name='greedy'"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(folder, overrides, line):
    with pytest.raises(ValueError, match="decode") as error:
        Trained(Folder(folder), overrides=overrides)
    assert line in str(error.value)
    assert len(str(error.value)) <= LIMIT


def test_a_split_that_is_not_there_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"split='tset' is not known\. Did you mean 'test'"
    ):
        evaluate(str(folder), split="tset")
