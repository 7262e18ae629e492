"""The cache of models/encoder_decoder.py, by models/decode/."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decode.beam import Beam
from models.decode.greedy import Greedy
from models.decode.terms import Opening
from models.encoder_decoder import EncoderDecoder

# The model, with a small vocabulary, so that beams meet and part often.
START, END = 3, 1
V, B, M, T = 8, 3, 6, 5


@pytest.fixture(scope="module", params=["pre", "post"])
def model(request):
    return EncoderDecoder(
        vocab=V,
        width=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=2,
        mlp_width=32,
        norm=request.param,
    )


@pytest.fixture(scope="module")
def source():
    source_BM = jax.random.randint(jax.random.key(1), (B, M), 4, V)
    segment_BM = jnp.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4])
    return source_BM * segment_BM, segment_BM


@pytest.fixture(scope="module")
def params(model, source):
    # Large ones, so that no token is likely just because it was read.
    key, rng = jax.random.key(0), np.random.default_rng(2)
    shapes = jax.eval_shape(lambda: model.init(key, *source, *source, train=False))
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.4 * rng.standard_normal(leaf.shape), jnp.float32),
        shapes,
    )


@pytest.fixture(scope="module")
def forced(model, params, source):
    """token_BL -> log p of each token given those before it, without a cache."""

    @jax.jit
    def logp(token_BL):
        segment_BL = jnp.ones_like(token_BL)
        logit_BLV = model.apply(params, *source, token_BL, segment_BL, train=False)
        return jax.nn.log_softmax(logit_BLV)

    return logp


def decode(model, params, source, beam):
    @jax.jit
    def run(params, *source):
        cache = model.apply(params, *source, beams=beam, room=T, method="start")
        method = Beam(beam=beam, num_best=beam) if beam > 1 else Greedy()
        given = Opening(cache, jnp.full(B, START), jnp.zeros((B, 0), jnp.int32))

        def extend(*of):
            return model.apply(params, *of, method="extend")

        return method.search(extend, given, None, room=T)[0]

    return run(params, *source)


def test_a_cache_gives_the_logits_of_full_recomputation(model, params, source, forced):
    token_BL = jax.random.randint(jax.random.key(2), (B, T), 4, V)
    expected_BLV = forced(token_BL)
    cache = jax.jit(
        lambda: model.apply(params, *source, beams=1, room=T, method="start")
    )()
    step = jax.jit(lambda *of: model.apply(params, *of, method="extend"))
    last_B = jnp.full(B, START)
    for place in range(T):
        logit_B1V, cache = step(last_B[:, None], cache)
        np.testing.assert_allclose(
            jax.nn.log_softmax(logit_B1V[:, 0]),
            expected_BLV[:, place],
            rtol=1e-5,
            atol=1e-5,
        )
        last_B = token_BL[:, place]


@pytest.mark.parametrize("model", ["pre"], indirect=True)
def test_greedy_text_is_the_argmax_of_full_recomputation(model, params, source, forced):
    found = decode(model, params, source, beam=1)
    token_BL = found.token_BRT[:, 0]
    best_BL = forced(token_BL).argmax(-1)
    real_BL = jnp.cumsum(token_BL == END, axis=1) - (token_BL == END) == 0
    np.testing.assert_array_equal(jnp.where(real_BL, best_BL, 0), token_BL)


@pytest.mark.parametrize("model", ["pre"], indirect=True)
def test_scores_of_a_beam_are_those_of_full_recomputation(
    model, params, source, forced
):
    found = decode(model, params, source, beam=4)
    token_BRT, score_BR = np.asarray(found.token_BRT), np.asarray(found.score_BR)
    assert len({tuple(t) for t in token_BRT[0].tolist()}) == 4
    ended_BR = (token_BRT == END).any(-1)
    assert (np.diff(ended_BR.astype(int)) <= 0).all()
    assert (np.diff(score_BR)[ended_BR[:, :-1] == ended_BR[:, 1:]] <= 0).all()
    assert ended_BR.any()
    assert not ended_BR.all()
    for r in range(4):
        token_BT = token_BRT[:, r]
        logp_BTV = forced(jnp.asarray(token_BT))
        logp_BT = np.take_along_axis(np.asarray(logp_BTV), token_BT[..., None], 2)[
            ..., 0
        ]
        ended_BT = token_BT == END
        real_BT = np.cumsum(ended_BT, axis=1) - ended_BT == 0
        length_B = real_BT.sum(1)
        expected_B = (logp_BT * real_BT).sum(1) / ((5 + length_B) / 6) ** 0.6
        np.testing.assert_allclose(score_BR[:, r], expected_B, rtol=1e-5, atol=1e-5)
