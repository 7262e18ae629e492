"""models/decoder.py and encoder.py: every word of their blocks, packed and cached."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoder import Decoder, check
from models.encoder import Encoder

V, L = 19, 12
SIZES = dict(vocab=V, width=16, num_heads=4, mlp_width=24, num_layers=2)
TEXTS = [[4, 5, 6, 7, 8, 9, 10], [11, 4, 12], [18, 17, 16, 15, 14, 4, 5, 6, 7]]

VARIANTS = {
    "post": dict(
        norm="post",
        bias=True,
        position="learned",
        max_length=L,
        activation="gelu",
        embed="plain",
        embed_norm=True,
        readout_bias=True,
    ),
    "sandwich": dict(
        norm="sandwich",
        norm_kind="rms",
        position="rotary",
        num_groups=1,
        qk_norm=True,
        softcap=2.0,
        logit_softcap=5.0,
        tied=False,
        activation="swiglu",
        window=3,
    ),
    "deepnorm": dict(
        norm="deepnorm", position="alibi", activation="relu2", block=4, num_global=1
    ),
    "peri": dict(
        norm="peri",
        position="relative",
        activation="geglu",
        embed="unit",
        num_experts=3,
        experts_per_token=2,
        initialization="depth",
    ),
    "linear": dict(attention="linear", position="rotary", num_groups=2),
    "features": dict(
        attention="random_features", num_features=8, position="learned", max_length=L
    ),
    "prefix": dict(prefix=True, position="none", num_groups=2, head_width=6, bias=True),
}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return Decoder(**SIZES, **VARIANTS[request.param])


def rows(*texts_of_rows):
    """Tokens and segments of three rows of L places."""
    token_BL, segment_BL = np.zeros((2, 3, L), np.int32)
    for row, texts in enumerate(texts_of_rows):
        place = 0
        for segment, text in enumerate(texts, 1):
            token_BL[row, place : place + len(text)] = text
            segment_BL[row, place : place + len(text)] = segment
            place += len(text)
    return jnp.asarray(token_BL), jnp.asarray(segment_BL)


PACKED = rows([TEXTS[0], TEXTS[1]], [TEXTS[2]])
ALONE = rows(*([text] for text in TEXTS))


def prompts_of(segment_BL):
    """The first two places of every text."""
    start_BL = segment_BL != jnp.pad(segment_BL[:, :-1], ((0, 0), (1, 0)))
    return start_BL | jnp.pad(start_BL[:, :-1], ((0, 0), (1, 0)))


def random_params(model, *inputs):
    """Of the size of fresh ones, but no norm has a plain 0 or 1."""
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), *inputs, train=False)
    )["params"]
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        center = 1.0 if "scale" in str(path) else 0.0
        return jnp.asarray(center + 0.25 * rng.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model, *PACKED)


@pytest.fixture(scope="module")
def forward(model, params):
    def logits(token_BL, segment_BL):
        prefix_BL = prompts_of(segment_BL).astype(jnp.int32)
        return model.apply(
            {"params": params}, token_BL, segment_BL, prefix_BL, train=False
        )

    return jax.jit(logits)


def test_packed_texts_get_the_logits_of_single_ones(forward):
    packed_BLV, alone_BLV = forward(*PACKED), forward(*ALONE)
    one, two, three = map(len, TEXTS)
    found = [packed_BLV[0, :one], packed_BLV[0, one : one + two], packed_BLV[1, :three]]
    for text, (a, b) in enumerate(zip(found, alone_BLV, strict=True)):
        np.testing.assert_allclose(
            a, b[: len(a)], rtol=1e-5, atol=1e-5, err_msg=str(text)
        )


def test_padding_and_other_texts_have_no_influence(model, params, forward):
    token_BL, segment_BL = PACKED
    other_BL = jnp.where(segment_BL == 1, token_BL, 13)
    one, other = forward(token_BL, segment_BL), forward(other_BL, segment_BL)
    np.testing.assert_array_equal(one[segment_BL == 1], other[segment_BL == 1])


def test_no_token_outside_a_prompt_sees_what_comes_after_it(model, forward):
    token_BL, segment_BL = ALONE
    for changed in (1, 5):
        other_BLV = forward(token_BL.at[:, changed].set(13), segment_BL)
        differs_L = (other_BLV != forward(*ALONE))[2].any(-1)
        first = 0 if model.prefix and changed < 2 else changed
        assert not differs_L[:first].any()
        assert differs_L[first]


@pytest.mark.parametrize("beams", [1, 2])
def test_reading_on_from_a_prompt_equals_reading_all_at_once(
    model, params, forward, beams
):
    """Prompts of 2, 1 and 2 tokens at the end of three places, and then the rest."""
    num = jnp.array([2, 1, 2]) if not model.prefix else jnp.array([2, 2, 2])
    token_BL, segment_BL = ALONE
    from_B1 = num[:, None] - 3
    place_BP = from_B1 + jnp.arange(3)[None]
    prompt_BP = jnp.take_along_axis(token_BL, jnp.maximum(place_BP, 0), axis=1)
    variables = {"params": params}
    cache = jax.jit(
        lambda *prompt: model.apply(
            variables, *prompt, beams=beams, room=L - 3, method="start"
        )
    )(prompt_BP, (place_BP >= 0).astype(jnp.int32))
    extend = jax.jit(lambda *of: model.apply(variables, *of, method="extend"))
    expected_BLV = forward(*ALONE)
    for step in range(L - 3):
        place_B1 = num[:, None] + step
        token_B1 = jnp.take_along_axis(token_BL, place_B1, axis=1)
        other_BL = jnp.concatenate([token_B1 + 1] * (beams - 1) + [token_B1], axis=1)
        logit_BLV, cache = extend(jnp.minimum(other_BL, V - 1), cache)
        real_B = jnp.take_along_axis(segment_BL, place_B1, axis=1)[:, 0] > 0
        wanted_BV = jnp.take_along_axis(expected_BLV, place_B1[..., None], axis=1)[:, 0]
        np.testing.assert_allclose(
            logit_BLV[:, -1][real_B], wanted_BV[real_B], rtol=1e-5, atol=2e-5
        )


def test_less_kept_for_the_backward_pass_changes_no_gradient():
    def grad_of(remat):
        model = Decoder(**SIZES, remat=remat, dropout=0.2, num_experts=2)
        params = random_params(model, *PACKED)

        def energy(params):
            rngs = {"dropout": jax.random.key(1)}
            return (
                model.apply({"params": params}, *PACKED, train=True, rngs=rngs) ** 2
            ).sum()

        compiled = jax.jit(jax.grad(energy)).lower(params).compile()
        return compiled(params)

    plain = grad_of("none")
    for remat in ("dots", "full"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
            grad_of(remat),
            plain,
        )


def test_remat_keeps_less():
    def temporary_bytes(remat):
        sizes = SIZES | dict(width=32, mlp_width=512, num_layers=8)
        model = Decoder(**sizes, remat=remat)
        token_BL = jax.ShapeDtypeStruct((8, 64), jnp.int32)
        shapes = jax.eval_shape(
            lambda: model.init(
                jax.random.key(0), *(jnp.ones((8, 64), int),) * 2, train=False
            )
        )

        def energy(params, token_BL):
            return model.apply(params, token_BL, token_BL, train=True).sum()

        compiled = jax.jit(jax.grad(energy)).lower(shapes, token_BL).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    none, dots, full = map(temporary_bytes, ("none", "dots", "full"))
    assert full < dots < none
    assert full < none / 2


def test_an_encoder_sees_all_of_its_text_and_nothing_else():
    words = dict(num_types=2, head="transform", bias=True, position="relative")
    model = Encoder(**SIZES, **words)
    params = random_params(model, *PACKED)
    forward = jax.jit(
        lambda *batch: model.apply({"params": params}, *batch, train=False)
    )
    type_BL = jnp.zeros_like(PACKED[0])
    packed_BLV, alone_BLV = forward(*PACKED, type_BL), forward(*ALONE, type_BL)
    one, two = len(TEXTS[0]), len(TEXTS[1])
    np.testing.assert_allclose(
        packed_BLV[0, one : one + two], alone_BLV[1, :two], rtol=1e-5, atol=1e-5
    )
    token_BL, segment_BL = PACKED
    other_BLV = forward(token_BL.at[0, one - 1].set(13), segment_BL, type_BL)
    differs_L = (other_BLV != packed_BLV)[0].any(-1)
    assert differs_L.tolist() == [True] * one + [False] * (L - one)
    typed_BLV = forward(*PACKED, type_BL.at[0, 0].set(1))
    assert (typed_BLV != packed_BLV)[0, :one].all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (dict(num_heads=3), r"num_heads=3 must divide model.width, which is 16"),
        (dict(num_groups=3), r"num_groups=3 must divide model.num_heads, which is 4"),
        (dict(position="rotary", head_width=5), r"a head has 5: .* must be even"),
        (
            dict(attention="linear", window=3),
            r"attention='linear' sums over all .* does not take .'window'",
        ),
        (
            dict(attention="linear", implementation="plain"),
            r"implementation='plain' is one of softmax attention",
        ),
        (dict(implementation="splash"), r"implementation='splash' .*'cpu'"),
        (dict(position="learned"), r"needs model.max_length.* to be more than 0"),
        (dict(num_global=1), r"num_global=1 needs model.window or model.block"),
        (dict(num_experts=1), r"experts_per_token=2 must not exceed .*num_experts=1"),
        (
            dict(remat="offload"),
            r"model.remat='offload' needs a device.*'cpu' has none",
        ),
        (
            dict(position="relative", relative_distance=16),
            r"relative_distance=16 must be more than half of model.relative_ranges=32",
        ),
    ],
)
def test_words_that_do_not_go_together_are_refused_in_one_line(words, message):
    sizes = {name: size for name, size in SIZES.items() if name != "vocab"}
    check(**sizes)
    with pytest.raises(ValueError, match=message) as error:
        check(**sizes | words)
    assert "\n" not in str(error.value)


def test_a_row_longer_than_its_positions_is_refused():
    model = Decoder(**SIZES, position="learned", max_length=L - 1)
    with pytest.raises(ValueError, match="max_length=11 is too short for 12 tokens"):
        model.init(jax.random.key(0), *PACKED, train=False)
