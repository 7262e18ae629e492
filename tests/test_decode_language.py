"""tasks/generation.py and language.py: prompts of all lengths, and what follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.overrides import resolve
from core.refusal import LIMIT
from launch import load
from models.decode.greedy import Greedy
from models.decode.sample import Sample
from models.decode.terms import END, PAD, START
from models.decoder import Decoder
from models.encoder_decoder import EncoderDecoder
from tasks import generation
from tasks.language import Language
from train import run
from train.evaluate import evaluate
from train.folder import Folder
from train.generate import generate, predict
from train.logs import read_json
from train.schema import SCHEMA
from train.trained import Trained

V, ROOM = 9, 8
SIZES = dict(vocab=V, width=16, num_heads=2, num_layers=2, mlp_width=32, tied=False)
TEXTS = [[], [4, 5, 6], [8, 4, 7, 7, 5, 2, 6, 8], [6] * 19]


@pytest.fixture(scope="module", params=["causal", "prefix"])
def language(request):
    """A task over a model of large parameters, and these."""
    words = dict(position="learned", max_length=40, window=6)
    if request.param == "prefix":
        words = dict(position="rotary", prefix=True)
    task = Language(Decoder(**SIZES, **words))
    # Large ones, so that what follows depends on all of the prompt.
    params = jax.tree.map(lambda leaf: 3 * leaf, jax.jit(task.init)(jax.random.key(2)))
    return task, params


def answer(task, params, texts, method):
    batch, room = task.ask(texts, max_tokens=ROOM)
    key_B = jax.vmap(jax.random.key)(jnp.arange(len(texts)))

    @jax.jit
    def found(params, batch, key_B):
        opening = task.prefill(params, batch, beams=method.beams, room=room)
        return task.decode(params, opening, key_B, method, room=room)[0]

    return jax.tree.map(np.asarray, found(params, batch, key_B))


def test_what_follows_a_prompt_is_the_argmax_of_full_recomputation(language):
    task, params = language
    found = answer(task, params, TEXTS, Greedy())
    whole = [
        [*text, END, START] if task.model.prefix else [START, *text] for text in TEXTS
    ]
    B, L = len(TEXTS), max(map(len, whole)) + ROOM
    input_BL, segment_BL = np.zeros((B, L), np.int32), np.zeros((B, L), np.int32)
    prefix_BL = np.zeros((B, L), np.int32)
    for n, (tokens, token_T) in enumerate(
        zip(whole, found.token_BRT[:, 0], strict=True)
    ):
        row = [*tokens, *token_T[:-1]]
        input_BL[n, : len(row)], segment_BL[n, : len(row)] = row, 1
        prefix_BL[n, : len(tokens) - 1] = 1
    logit_BLV = jax.jit(
        lambda *given: task.model.apply({"params": params}, *given, train=False)
    )(input_BL, segment_BL, prefix_BL)
    logp_BLV = np.asarray(jax.nn.log_softmax(logit_BLV))
    lengths = set()
    for n, tokens in enumerate(whole):
        token_T = found.token_BRT[n, 0]
        length = np.append(token_T == END, True).argmax() + 1
        text = token_T[:length]
        logp_TV = logp_BLV[n, len(tokens) - 1 :][: len(text)]
        assert text.tolist() == logp_TV.argmax(1).tolist()
        assert not token_T[len(text) :].any()
        logp = logp_TV[np.arange(len(text)), text].sum()
        np.testing.assert_allclose(found.score_BR[n, 0], logp, rtol=1e-4)
        lengths.add(tuple(text))
    assert len(lengths) > 2


def test_a_layer_is_read_where_it_lies_and_not_copied_for_every_token(language):
    task, params = language
    batch, room = task.ask([[4, 5, 6]], max_tokens=ROOM)

    def found(params, opening):
        return task.decode(params, opening, None, Greedy(), room=room)

    opening = jax.eval_shape(
        lambda batch: task.prefill(params, batch, beams=1, room=room), batch
    )
    text = jax.jit(found).lower(params, opening).compile().as_text()
    layers = [line for line in text.splitlines() if "f32[1,16,32]" in line]
    cut = [line for line in layers if " slice(" in line]
    assert len(cut) == 2, "each layer of the first weights of the MLP"
    assert not any("while/body" in line for line in layers)


def test_a_longer_row_of_prompts_changes_nothing(language):
    task, params = language
    method = Sample(num_samples=3, repetition_penalty=1.5)
    found = answer(task, params, TEXTS, method)
    short = answer(task, params, TEXTS[:2], method)
    np.testing.assert_array_equal(found.token_BRT[:2], short.token_BRT)
    np.testing.assert_allclose(found.score_BR[:2], short.score_BR, rtol=1e-4)


def test_all_of_a_prompt_counts_as_said(language):
    task, params = language
    batch, room = task.ask([[4, 5, 6], [7]], max_tokens=ROOM)
    opening = jax.jit(lambda batch: task.prefill(params, batch, beams=1, room=room))(
        batch
    )
    for said_P, tokens in zip(opening.prompt_BP, ({4, 5, 6}, {7}), strict=True):
        assert set(said_P.tolist()) - {PAD, START, END} == tokens


@pytest.mark.parametrize("prefix", [False, True])
def test_a_request_beyond_the_positions_is_refused_and_one_within_is_held(prefix):
    model = Decoder(**SIZES, position="learned", max_length=20, prefix=prefix)
    task, ends = Language(model), 1 if prefix else 0
    batch, room = task.ask([[4] * (12 - ends)], max_tokens=8)
    assert (batch["prompt_BP"].shape, room) == ((1, 12), 8)
    with pytest.raises(
        ValueError, match=r"A text of 13 tokens and decode\.max_tokens=8 "
    ):
        task.ask([[4], [4] * (13 - ends)], max_tokens=8)
    anywhere = Language(Decoder(**SIZES, position="rotary", prefix=prefix))
    assert anywhere.ask([[4] * 900], max_tokens=8)[0]["prompt_BP"].shape == (1, 1024)


def test_a_source_beyond_the_positions_is_refused_and_an_answer_ends_with_them():
    sizes = dict(SIZES, num_encoder_layers=1, num_decoder_layers=1)
    sizes.pop("num_layers")
    model = EncoderDecoder(**sizes, position="learned", max_length=20)
    batch, room = generation.sources(model, [[4] * 19], max_tokens=256)
    assert (batch["source_BM"].shape, room) == ((1, 20), 20)
    with pytest.raises(ValueError, match=r"A text of 21 tokens is longer than .*=20"):
        generation.sources(model, [[4] * 20], max_tokens=256)
    model = EncoderDecoder(**sizes)
    assert generation.sources(model, [[4] * 20], max_tokens=256)[1] == 2 * 24 + 16
    assert generation.sources(model, [[4] * 20], max_tokens=9)[1] == 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on a text of a few words."""
    folder = tmp_path_factory.mktemp("run")
    words = "To be, or not to be: that is the question.\n" * 99
    (folder / "tinyshakespeare.txt").write_text(words)
    typed = {"data.folder": str(folder), "num_steps": "8"}
    config, _ = resolve(load("experiments/shakespeare.py:tiny"), typed, SCHEMA)
    run.train(config, str(folder / "run"))
    return folder / "run"


def test_a_language_model_is_evaluated_in_nats_and_bits(folder, capsys):
    scores = evaluate(str(folder), split="validation")
    summary = read_json(folder / "summary.json")
    assert scores["loss"] == pytest.approx(summary["val_loss"], rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]), rel=1e-6)
    # A character is a byte here, and each document has an end.
    assert scores["bits_per_byte"] == pytest.approx(
        scores["loss"] / np.log(2), rel=0.02
    )
    assert summary["evaluations"]["validation"] == scores
    assert summary["bits_per_byte"] == scores["bits_per_byte"]
    assert "perplexity" in capsys.readouterr().out
    assert not (folder / "predictions").exists()


def test_a_language_model_goes_on_with_each_prompt(folder):
    texts = ["To be", "", "question.\nTo", "that is " * 4]
    typed = {"decode.max_tokens": "12", "decode.num_samples": "3"}
    one_by_one = list(predict(str(folder), texts, overrides=typed))
    together = dict(generate(Trained(Folder(folder), overrides=typed), texts))
    for number, answers in enumerate(one_by_one):
        assert [a.text for a in answers] == [a.text for a in together[number]]
    assert len({answer.text for answers in one_by_one for answer in answers}) > 9
    assert {len(answer.text) for answers in one_by_one for answer in answers} <= {
        *range(13)
    }
    other = predict(str(folder), texts, overrides=typed | {"decode.seed": "7"})
    assert [a.text for a in next(other)] != [a.text for a in one_by_one[0]]


def test_a_prompt_that_is_too_long_is_one_line(folder, monkeypatch):
    trained = Trained(Folder(folder), overrides={"decode.max_tokens": "12"})
    monkeypatch.setattr(generation, "_max_length", lambda model: 40)
    with pytest.raises(ValueError, match="longer than the model holds") as error:
        dict(generate(trained, ["To be", "or not " * 9]))
    assert len(str(error.value)) <= LIMIT
