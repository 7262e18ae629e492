"""tasks/translation.py and metrics.py"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.encoder_decoder import EncoderDecoder
from tasks.metrics import METRICS
from tasks.translation import Translation

SIZES = dict(
    vocab=11,
    width=8,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_width=16,
)


def batch_of(rows):
    """Rows of pairs, padded: each pair is (source ids, target ids)."""
    width = 8
    batch = {
        name: np.zeros((len(rows), width), np.int32)
        for name in ("source_BM", "source_segment_BM", "target_BL", "target_segment_BL")
    }
    for n, pairs in enumerate(rows):
        for side, suffix in (("source", "BM"), ("target", "BL")):
            place = 0
            for segment, pair in enumerate(pairs, start=1):
                ids = pair[side == "target"]
                stretch = slice(place, place + len(ids))
                batch[f"{side}_{suffix}"][n, stretch] = ids
                batch[f"{side}_segment_{suffix}"][n, stretch] = segment
                place += len(ids)
    return jax.tree.map(jnp.asarray, batch)


def test_packed_rows_score_like_single_ones_and_padding_weighs_nothing():
    task = Translation(EncoderDecoder(**SIZES))
    params = jax.jit(task.init)(jax.random.key(0))
    one, two = ([4, 5, 1], [6, 1]), ([7, 1], [8, 9, 1])
    key = jax.random.key(0)
    packed = jax.jit(task.score, static_argnames="train")(
        params, batch_of([[one, two]]), key, train=False
    )
    single = jax.jit(task.score, static_argnames="train")(
        params, batch_of([[one], [two], []]), key, train=False
    )
    for name in ("loss", "objective", "accuracy"):
        assert packed[name].weight == single[name].weight == 5
        np.testing.assert_allclose(packed[name].total, single[name].total, rtol=1e-5)


def test_smoothing_is_in_the_objective_of_training_only():
    task = Translation(EncoderDecoder(**SIZES), smoothing=0.3)
    params, key = jax.jit(task.init)(jax.random.key(0)), jax.random.key(0)
    batch = batch_of([[([4, 5, 1], [6, 1])]])
    train = jax.jit(task.score, static_argnames="train")(params, batch, key, train=True)
    valid = jax.jit(task.score, static_argnames="train")(
        params, batch, key, train=False
    )
    assert train["objective"].total != train["loss"].total
    assert valid["objective"].total == valid["loss"].total
    np.testing.assert_allclose(train["loss"].total, valid["loss"].total, rtol=1e-6)


def test_metrics_know_the_perfect_and_the_hopeless():
    references = ["der Hund läuft schnell weg", "ein Mann liest die Zeitung heute"]
    for name, metric in METRICS.items():
        best = metric(references, references, "13a")[name]
        worst = metric(["x y z", "q"], references, "13a")[name]
        assert best == pytest.approx(1.0 if name == "exact_match" else 100.0)
        assert worst < 0.1 * best


def test_evaluation_stands_beside_copying_the_source():
    task = Translation(EncoderDecoder(**SIZES))
    scores = task.evaluate(["a b c d", "x"], ["A b c d", "y"], ["a b c d", "y"])
    assert (scores["exact_match"], scores["copy_exact_match"]) == (0.5, 0.5)
    assert scores["bleu_lower"] > scores["bleu"]
    assert "case:lc" in scores["bleu_lower_signature"]


def test_flops_agree_with_the_compiler():
    task = Translation(
        EncoderDecoder(**SIZES | dict(width=64, mlp_width=256, vocab=97))
    )
    params = jax.jit(task.init)(jax.random.key(0))
    batch = jax.tree.map(lambda x: jnp.ones((4, 32), jnp.int32), batch_of([[]]))
    forward = jax.jit(lambda p: task.score(p, batch, jax.random.key(0), train=False))
    counted = forward.lower(params).compile().cost_analysis()["flops"]
    assert task.forward_flops(params, batch) == pytest.approx(counted, rel=0.15)
