"""tasks/language.py and fit.py: what is predicted, and what is made of its loss."""

import math

import jax
import numpy as np
import pytest

from data.codec import BOS, EOS
from data.packing import PACKING, Stream
from data.packing.joined import join
from data.packing.stream import cut
from data.ragged import Ragged
from data.tokenizer import train
from models import MODELS
from models.decoder import Decoder
from tasks import TASKS
from tasks.fit import FITS, check_fit
from tasks.language import Language

SIZES = dict(vocab=11, width=8, num_heads=2, num_layers=1, mlp_width=16)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def causal():
    """A model of random parameters, and its scores, compiled."""
    task = Language(Decoder(**SIZES))
    params = jax.jit(task.init)(KEY)
    score = jax.jit(lambda batch: task.score(params, batch, KEY, train=False))
    logits = jax.jit(
        lambda token, segment: task.model.apply(
            {"params": params}, token, segment, train=False
        )
    )
    return task, score, logits


def batch_of(rows):
    return {k: v.astype(np.int32) for k, v in rows.items() if k != "tokens_R"}


def test_the_loss_is_that_of_every_token_after_those_before_it(causal):
    _, score, logits = causal
    documents = [[4, 5, 6, EOS], [7, EOS], [8, 9, 10, 4, EOS]]
    whole = cut(np.concatenate(documents), 12)
    scores = score(batch_of(whole))
    nats = []
    for tokens in documents:
        input_BL = np.zeros((1, 12), np.int32)
        input_BL[0, : len(tokens)] = [BOS, *tokens[:-1]]
        segment_BL = (input_BL > 0).astype(np.int32)
        log_p_LV = jax.nn.log_softmax(logits(input_BL, segment_BL)[0])
        nats += [-float(log_p_LV[n, token]) for n, token in enumerate(tokens)]
    assert scores["loss"].weight == len(nats) == 11
    np.testing.assert_allclose(scores["loss"].total, sum(nats), rtol=1e-5)
    assert scores["objective"].total == scores["loss"].total


def test_a_row_begins_with_the_token_before_it_and_forgets_the_rest(causal):
    _, score, logits = causal
    rows = cut(np.array([4, 5, 6, 7, EOS]), 3)
    scores = score(batch_of(rows))
    input_BL = np.array([[BOS, 4, 5], [6, 7, 0]], np.int32)
    segment_BL = (input_BL > 0).astype(np.int32)
    log_p_BLV = jax.nn.log_softmax(logits(input_BL, segment_BL))
    nats = -sum(log_p_BLV[0, n, t] for n, t in enumerate((4, 5, 6)))
    nats -= sum(log_p_BLV[1, n, t] for n, t in enumerate((7, EOS)))
    np.testing.assert_allclose(scores["loss"].total, nats, rtol=1e-5)


def ragged(texts):
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Ragged(np.concatenate(texts), starts)


def test_a_prompt_is_read_both_ways_and_not_predicted():
    task = Language(Decoder(**SIZES | dict(num_layers=2), prefix=True))
    params = jax.jit(task.init)(KEY)
    rows = join(ragged([[4, 5, 6, EOS], [7, EOS]]), ragged([[8, 9, EOS]] * 2), 16)
    batch = batch_of(rows)
    score = jax.jit(lambda batch: task.score(params, batch, KEY, train=False))
    scores = score(batch)
    assert scores["loss"].weight == 6
    prompt_BL = batch["prefix_BL"] == 1
    other = batch | {"target_BL": np.where(prompt_BL, 9, batch["target_BL"])}
    assert score(other)["loss"].total == scores["loss"].total
    blind = batch | {"prefix_BL": np.zeros_like(batch["prefix_BL"])}
    blind_scores = score(blind)
    assert blind_scores["loss"].weight == 6 + prompt_BL.sum()

    @jax.jit
    def log_p(input_BL, segment_BL, prefix_BL):
        inputs = input_BL, segment_BL, prefix_BL
        return jax.nn.log_softmax(
            task.model.apply({"params": params}, *inputs, train=False)
        )

    def answers(batch):
        """The nats of the answers, by hand."""
        log_p_BLV = log_p(*(batch[f"{n}_BL"] for n in ("input", "segment", "prefix")))
        target_BL1 = batch["target_BL"][..., None]
        return -np.take_along_axis(np.array(log_p_BLV), target_BL1, 2)[..., 0]

    answer_BL = (batch["segment_BL"] > 0) & ~prompt_BL
    both_ways, one_way = answers(batch)[answer_BL], answers(blind)[answer_BL]
    np.testing.assert_allclose(scores["loss"].total, both_ways.sum(), rtol=1e-5)
    assert abs(both_ways.sum() - one_way.sum()) > 1e-3


def test_smoothing_is_in_the_objective_of_training_only(causal):
    task = Language(Decoder(**SIZES), smoothing=0.3)
    params = jax.jit(task.init)(KEY)
    batch = batch_of(cut(np.array([4, 5, EOS]), 4))
    train, valid = (
        jax.jit(lambda b, t=t: task.score(params, b, KEY, train=t))(batch)
        for t in (True, False)
    )
    assert train["objective"].total != train["loss"].total
    assert valid["objective"].total == valid["loss"].total
    np.testing.assert_allclose(train["loss"].total, valid["loss"].total, rtol=1e-6)


def test_bits_per_byte_do_not_depend_on_what_a_token_is():
    """A code of the same length for a text is the same bits a byte, by any tokens."""
    text, nats = "aä bä " * 50, 333.0
    task, found = Language(Decoder(**SIZES)), []
    for kind, vocab in (("char", 99), ("byte", 260), ("bpe", 268)):
        tokenizer = train([text], kind=kind, vocab=vocab)
        _, stats = Stream(length=16).pack(iter([{"text": text}]), tokenizer, None)
        found.append(task.summary(nats / stats["tokens"], stats)["bits_per_byte"])
    assert len(text.encode()) == 400
    np.testing.assert_allclose(found, nats / math.log(2) / 400, rtol=1e-12)


def test_perplexity_is_of_any_rows_and_bits_per_byte_of_text_alone():
    task = Language(Decoder(**SIZES))
    assert task.summary(math.log(7), {"tokens": 3}) == {
        "perplexity": pytest.approx(7.0)
    }
    assert task.summary(1e4, {"tokens": 3})["perplexity"] == math.inf


def test_answers_to_prompts_are_held_against_references():
    task = Language(Decoder(**SIZES, prefix=True))
    assert not task.continues
    assert Language(Decoder(**SIZES)).continues
    scores = task.evaluate(["a b c d", "x"], ["A b c d", "y"], ["a b c d", "y"])
    assert (scores["exact_match"], scores["copy_exact_match"]) == (0.5, 0.5)


def test_flops_agree_with_the_compiler():
    task = Language(Decoder(**SIZES | dict(width=64, mlp_width=256, vocab=97)))
    batch = batch_of(cut(np.full(128, 5), 32))
    params = jax.jit(task.init)(KEY)
    forward = jax.jit(lambda p, b: task.score(p, b, KEY, train=False))
    counted = forward.lower(params, batch).compile().cost_analysis()["flops"]
    assert task.forward_flops(params, batch) == pytest.approx(counted, rel=0.15)


def blocks(**names):
    model = dict(name=names["model"], prefix=names.get("prefix", False))
    return dict(
        task=dict(name=names["task"]), model=model, packing=dict(name=names["packing"])
    )


GOOD = [
    dict(task="translation", model="encoder_decoder", packing="pairs"),
    dict(task="language", model="decoder", packing="stream"),
    dict(task="language", model="decoder", packing="joined", prefix=True),
]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (GOOD[0] | dict(packing="stream"), r"packing\.name='stream' .*'translation'"),
        (GOOD[0] | dict(model="decoder"), r"model\.name='decoder' does not fit task"),
        (GOOD[1] | dict(packing="pairs"), r"'pairs' .* \['joined', 'stream'\]"),
        (GOOD[1] | dict(model="encoder"), r"Known for it: \['decoder'\]"),
        (
            GOOD[1] | dict(packing="joined"),
            r"model\.prefix=False does not fit .*joined",
        ),
        (GOOD[1] | dict(prefix=True), r"model\.prefix=True does not fit .*'stream'"),
    ],
)
def test_a_task_over_the_wrong_model_or_rows_is_one_line(names, match):
    with pytest.raises(ValueError, match=match) as error:
        check_fit(blocks(**names))
    assert "\n" not in str(error.value)


def test_every_task_says_what_it_goes_with():
    assert FITS.keys() == TASKS.keys()
    for fit in FITS.values():
        assert set(fit.model) <= MODELS.keys()
        assert set(fit.packing) <= PACKING.keys()
    for names in GOOD:
        check_fit(blocks(**names))
