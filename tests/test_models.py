"""models/encoder_decoder.py, block.py and packing.py"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.axes import axes_of
from models.encoder_decoder import EncoderDecoder

V, D, H, F = 11, 16, 2, 24
SIZES = dict(
    vocab=V,
    width=D,
    num_heads=H,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_width=F,
)


def pack(*rows):
    """Texts of each row, as tokens and segments."""
    length = max(sum(len(text) for text in row) for row in rows) + 1
    token = np.zeros((len(rows), length), np.int32)
    segment = np.zeros_like(token)
    for r, row in enumerate(rows):
        place = 0
        for number, text in enumerate(row, 1):
            token[r, place : place + len(text)] = text
            segment[r, place : place + len(text)] = number
            place += len(text)
    return jnp.asarray(token), jnp.asarray(segment)


SOURCES = [[4, 5, 6, 1], [7, 1], [10, 9, 8, 7, 1]]
TARGETS = [[8, 9, 1], [4, 10, 5, 5, 1], [6, 1]]
PACKED = (
    *pack([SOURCES[0], SOURCES[1]], [SOURCES[2]]),
    *pack([TARGETS[0], TARGETS[1]], [TARGETS[2]]),
)
ALONE = (*pack(*([s] for s in SOURCES)), *pack(*([t] for t in TARGETS)))


@pytest.fixture(scope="module", params=["pre", "post", "sandwich", "peri", "deepnorm"])
def model(request):
    return EncoderDecoder(**SIZES, norm=request.param)


def random_params(model, seed=0):
    """Of the size of fresh ones, but no norm has a plain 0 or 1."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: model.init(key, *PACKED, train=False))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        center = 1.0 if "scale" in str(path) else 0.0
        return jnp.asarray(center + 0.25 * rng.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model)


@pytest.fixture(scope="module")
def forward(model):
    return jax.jit(lambda params, *batch: model.apply(params, *batch, train=False))


class Reference:
    """The model in float64 numpy, one example and one head at a time."""

    def __init__(self, params, norm):
        self.params = jax.tree.map(
            lambda leaf: np.asarray(leaf, "f8"), params["params"]
        )
        self.norm = norm

    def __call__(self, source, target):
        memory = self.stack("encoder", self.embed(source, "encoder"), None)
        x = self.stack("decoder", self.embed([3, *target[:-1]], "decoder"), memory)
        return x @ self.params["embedding"]["embed"].T

    def embed(self, text, side):
        place, half = np.arange(len(text))[:, None], D // 2
        angle = place / 10_000 ** (np.arange(half)[None] / (half - 1))
        places = np.concatenate([np.sin(angle), np.cos(angle)], 1)
        x = self.params["embedding"]["embed"][text] * np.sqrt(D) + places
        if self.norm == "peri":
            return self.layer_norm(self.params[f"{side}_entrance"]["norm"], x)
        return x

    def stack(self, name, x, memory):
        stack = self.params[name]
        for n in range(2):
            x = self.block(
                jax.tree.map(lambda w, n=n: w[n], stack["layers"]), x, memory
            )
        after = self.norm in ("post", "deepnorm")
        return x if after else self.layer_norm(stack["norm"], x)

    def block(self, p, x, memory):
        def look(y):
            causal = np.tril(np.ones((len(y), len(y)))) if memory is not None else 1
            return self.attention(p["attention"], y, y, causal)

        def look_at_memory(y):
            return self.attention(p["cross_attention"], y, memory, 1)

        def think(y):
            return np.maximum(y @ p["mlp"]["in"], 0) @ p["mlp"]["out"]

        # DeepNorm of 2 + 2 layers: .81 (N^4 M)^(1/16) and (3 M)^(1/4).
        alpha = 0.81 * 32 ** (1 / 16) if memory is None else 6**0.25
        x = self.residual(p, "attention", look, x, alpha)
        if memory is not None:
            x = self.residual(p, "cross", look_at_memory, x, alpha)
        return self.residual(p, "mlp", think, x, alpha)

    def residual(self, p, name, layer, x, alpha):
        norm = p[f"norm_{name}"]
        if self.norm == "pre":
            return x + layer(self.layer_norm(norm, x))
        if self.norm in ("sandwich", "peri"):
            out = self.layer_norm(
                p[f"norm_out_{name}"], layer(self.layer_norm(norm, x))
            )
            return x + out
        return self.layer_norm(
            norm, (alpha if self.norm == "deepnorm" else 1) * x + layer(x)
        )

    def layer_norm(self, p, x):
        x = x - x.mean(-1, keepdims=True)
        return (
            x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]
        )

    def attention(self, p, x, memory, visible):
        out = 0
        for h in range(H):
            query, key = x @ p["query"][:, h], memory @ p["key"][:, h]
            weight = np.exp(query @ key.T / np.sqrt(D // H)) * visible
            weight /= weight.sum(-1, keepdims=True)
            out = out + weight @ (memory @ p["value"][:, h]) @ p["out"][h]
        return out


def by_example(logit_BLV):
    """The logits of each example of `PACKED`, in the order of `TARGETS`."""
    return [logit_BLV[0, :3], logit_BLV[0, 3:8], logit_BLV[1, :2]]


def test_the_forward_pass_equals_numpy_in_float64(model, params, forward):
    reference = Reference(params, model.norm)
    actual = by_example(forward(params, *PACKED))
    for source, target, logit_LV in zip(SOURCES, TARGETS, actual, strict=True):
        expected_LV = reference(source, target)
        np.testing.assert_allclose(logit_LV, expected_LV, rtol=1e-5, atol=1e-5)


def test_packed_rows_equal_rows_of_one_example(params, forward):
    def loss(logit_LV, target):
        logp_LV = jax.nn.log_softmax(logit_LV)
        return -np.take_along_axis(np.asarray(logp_LV), np.array(target)[:, None], 1)

    packed, alone = by_example(forward(params, *PACKED)), forward(params, *ALONE)
    sums = np.zeros(2)
    for target, one_LV, other_LV in zip(TARGETS, packed, alone, strict=True):
        other_LV = other_LV[: len(target)]
        np.testing.assert_allclose(one_LV, other_LV, rtol=1e-5, atol=1e-5)
        sums += loss(one_LV, target).sum(), loss(other_LV, target).sum()
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-6)


def test_padding_does_not_matter(params, forward):
    source_BM, source_segment_BM, target_BL, target_segment_BL = PACKED
    junk = (
        jnp.where(source_segment_BM > 0, source_BM, 9),
        source_segment_BM,
        jnp.where(target_segment_BL > 0, target_BL, 9),
        target_segment_BL,
    )
    one, other = forward(params, *PACKED), forward(params, *junk)
    for a, b in zip(by_example(one), by_example(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_token_sees_itself_or_what_comes_after_it(params, forward):
    logit_BLV = forward(params, *PACKED)
    source_BM, source_segment_BM, target_BL, target_segment_BL = PACKED
    changed_BL = target_BL.at[0, 5].set(7)
    changed_BLV = forward(
        params, source_BM, source_segment_BM, changed_BL, target_segment_BL
    )
    differs_L = (changed_BLV != logit_BLV)[0].any(-1)
    assert differs_L[:8].tolist() == [False] * 6 + [True] * 2


def num_expected(norm):
    norms = 2 * 2 * D if norm in ("sandwich", "peri") else 2 * D  # of a branch
    encoder = 4 * D**2 + 2 * D * F + 2 * norms
    decoder = 8 * D**2 + 2 * D * F + 3 * norms
    at_ends = dict(pre=1, sandwich=1, peri=2).get(norm, 0)
    return V * D + 2 * encoder + 2 * decoder + 2 * at_ends * 2 * D


def test_there_are_as_many_parameters_as_the_formula_says(model, params):
    found = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found == num_expected(model.norm)


def test_every_parameter_has_its_axes(params):
    sizes = dict(N=2, V=V, D=D, H=H, G=H, K=D // H, F=F)
    axes = axes_of(params["params"])

    def same(leaf, letters):
        assert leaf.shape == tuple(sizes[letter] for letter in letters)

    jax.tree.map(same, params["params"], axes)


def test_weights_start_with_one_over_their_inputs_for_variance():
    model = EncoderDecoder(**SIZES | dict(width=128, mlp_width=512, vocab=500))
    params = jax.jit(lambda: model.init(jax.random.key(0), *PACKED, train=False))()
    layers = params["params"]["decoder"]["layers"]
    for leaf, fan_in in (
        (params["params"]["embedding"]["embed"], 128),
        (layers["attention"]["query"], 128),
        (layers["attention"]["out"], 128),
        (layers["cross_attention"]["value"], 128),
        (layers["mlp"]["in"], 128),
        (layers["mlp"]["out"], 512),
    ):
        np.testing.assert_allclose(leaf.std() * fan_in**0.5, 1.0, rtol=0.03)
    assert not np.array_equal(layers["mlp"]["in"][0], layers["mlp"]["in"][1])


@pytest.mark.parametrize("model", ["pre"], indirect=True)
def test_half_precision_stays_close_to_full(model, params, forward):
    half = EncoderDecoder(**SIZES, norm=model.norm, dtype="bfloat16")
    half_BLV = jax.jit(lambda params: half.apply(params, *PACKED, train=False))(params)
    full_BLV = forward(params, *PACKED)
    assert half_BLV.dtype == jnp.float32
    # bfloat16 has 8 bits: 2**-8 = 0.4 % a rounding, some twenty of them in a row.
    error_BLV = (half_BLV - full_BLV)[PACKED[3] > 0]
    assert 0 < jnp.sqrt((error_BLV**2).mean()) < 0.02 * full_BLV.std()
    assert jnp.abs(error_BLV).max() < 0.1 * full_BLV.std()
