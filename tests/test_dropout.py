"""models/dropout.py"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import dropout
from models.dropout import Dropout

KEY = jax.random.key(0)


@functools.partial(jax.jit, static_argnames="generator")
def drop(x, rate, key=KEY, generator="hash"):
    layer = Dropout(rate, generator)
    return layer.apply({}, x, train=True, rngs={"dropout": key})


@functools.partial(jax.jit, static_argnums=2)
def mask_of_words(word_2, keep, shape):
    return dropout.mask(jax.random.wrap_key_data(word_2), keep, shape)


def masks(words, keep, shape):
    """A mask a row of `words`, flat."""
    many = jax.jit(
        jax.vmap(lambda w: dropout.mask(jax.random.wrap_key_data(w), keep, shape))
    )
    return np.asarray(many(np.asarray(words, np.uint32))).reshape(len(words), -1)


def correlations(a, b):
    """In standard deviations of what independent masks have."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return (a * b).sum(-1) / scale * np.sqrt(a.shape[-1])


WORDS = np.random.default_rng(0).integers(0, 2**32, (64, 2), np.uint32)
# The keys that a counter makes, and those that differ in a single bit.
COUNTED = [(0, n) for n in range(32)] + [(n, 0) for n in range(1, 33)]
FLIPPED = [(1 << n, 0) for n in range(32)] + [(0, 1 << n) for n in range(32)]


@pytest.mark.parametrize("generator", ["hash", "threefry"])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_the_share_that_is_kept_lies_within_five_sigma(rate, generator):
    n = 2**18
    x = drop(jnp.ones((n,)), rate, generator=generator)
    sigma = np.sqrt(rate * (1 - rate) / n)
    assert abs((x != 0).mean() - (1 - rate)) < 5 * sigma
    np.testing.assert_allclose(x[x != 0], 1 / (1 - rate), rtol=1e-6)
    assert abs(x.mean() - 1) < 5 * sigma / (1 - rate)


@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_a_traced_rate_equals_a_static_one(generator):
    x = jax.random.normal(KEY, (64, 33))
    for rate in (0.1, 0.25, 0.7):
        layer = Dropout(rate, generator)
        static = jax.jit(
            lambda x, layer=layer: layer.apply({}, x, train=True, rngs={"dropout": KEY})
        )(x)
        np.testing.assert_array_equal(static, drop(x, rate, generator=generator))


@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_mapping_over_rates_equals_two_runs(generator):
    x = jax.random.normal(KEY, (16, 32))
    rates = jnp.array([0.1, 0.4])
    both = jax.jit(jax.vmap(lambda rate: drop(x, rate, generator=generator)))(rates)
    for rate, one in zip(rates, both, strict=True):
        np.testing.assert_array_equal(one, drop(x, rate, generator=generator))
    assert (both[0] != both[1]).any()


@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_the_backward_pass_uses_the_same_mask(generator):
    x, rate = jnp.ones((128, 65)), jnp.float32(0.3)
    out = drop(x, rate, generator=generator)
    gradient = jax.grad(lambda x: drop(x, rate, generator=generator).sum())(x)
    np.testing.assert_array_equal(gradient, out)
    assert 0.6 < (gradient != 0).mean() < 0.8


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_relu_and_dropout_in_one_equal_one_after_the_other(rate, generator):
    x, weight = jax.random.normal(KEY, (2, 64, 33))
    layer = Dropout(rate, generator)

    def both(x):
        out = layer.apply({}, x, train=True, rngs={"dropout": KEY}, method="relu")
        return (weight * out).sum(), out

    def after(x):
        out = layer.apply({}, nn.relu(x), train=True, rngs={"dropout": KEY})
        return (weight * out).sum(), out

    gradient, out = jax.jit(jax.grad(both, has_aux=True))(x)
    expected, expected_out = jax.jit(jax.grad(after, has_aux=True))(x)
    np.testing.assert_array_equal(out, expected_out)
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_allclose((gradient != 0).mean(), 0.5 * (1 - rate), atol=0.03)


@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_half_precision_stays_half_precision(generator):
    x = jax.random.normal(KEY, (64, 33))
    half = drop(x.astype(jnp.bfloat16), 0.25, generator=generator)
    assert half.dtype == jnp.bfloat16
    full = drop(x, 0.25, generator=generator)
    np.testing.assert_array_equal(half == 0, full == 0)
    np.testing.assert_allclose(half.astype("f4"), full, rtol=0.02)
    gradient = jax.grad(lambda x: drop(x, 0.25, generator=generator).sum())(
        x.astype(jnp.bfloat16)
    )
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.5, False)])
@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_what_is_off_leaves_no_trace(rate, train, generator):
    layer = Dropout(rate, generator)
    jaxpr = jax.make_jaxpr(lambda x: layer.apply({}, x, train=train))(jnp.ones(3))
    assert not jaxpr.jaxpr.eqns


def test_the_generators_are_two():
    x = jnp.ones((64, 64))
    one, other = drop(x, 0.5), drop(x, 0.5, generator="threefry")
    assert 0.3 < (one != other).mean() < 0.7
    jaxpr = str(jax.make_jaxpr(lambda x: drop(x, 0.5))(x))
    assert "random_bits" not in jaxpr


@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_the_mask_does_not_depend_on_the_mesh(generator):
    x = jax.random.normal(KEY, (16, 6, 32))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    spread = drop(jax.device_put(x, rows), 0.3, generator=generator)
    assert spread.sharding.is_equivalent_to(rows, x.ndim)
    np.testing.assert_array_equal(spread, drop(x, 0.3, generator=generator))


@pytest.mark.parametrize("generator", ["hash", "threefry"])
def test_scanned_layers_draw_masks_of_their_own(generator):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, carry, _):
            kept = Dropout(jnp.float32(0.5), generator)(jnp.ones((64, 64)), train=True)
            return carry, kept

    scanned = nn.scan(Layer, split_rngs={"dropout": True}, length=4)()
    run = jax.jit(lambda key: scanned.apply({}, 0.0, None, rngs={"dropout": key})[1])
    one, other = run(jax.random.key(1)), run(jax.random.key(2))
    flat = np.asarray(jnp.concatenate([one, other])).reshape(8, -1)
    assert_uncorrelated(flat)


def assert_uncorrelated(flat, sigmas=5.0):
    first, second = np.triu_indices(len(flat), 1)
    found = correlations(flat[first].astype("f4"), flat[second].astype("f4"))
    assert np.abs(found).max() < sigmas
    # As many are large as chance makes large.
    assert 0.8 < (found**2).mean() < 1.25 or len(found) < 100


@pytest.mark.parametrize(
    "words", [WORDS, COUNTED, [*FLIPPED, (0, 0)]], ids=["random", "counted", "flipped"]
)
def test_masks_of_other_keys_are_uncorrelated(words):
    assert_uncorrelated(masks(words, 0.7, (2**12,)))


def test_steps_and_layers_folded_into_a_key_give_uncorrelated_masks():
    keys = [
        jax.random.fold_in(jax.random.fold_in(KEY, step), layer)
        for step in range(8)
        for layer in range(4)
    ]
    words = np.stack([jax.random.key_data(key) for key in keys])
    assert_uncorrelated(masks(words, 0.9, (2**12,)))


def test_places_of_one_mask_are_uncorrelated():
    # By rows, by columns, and at the distance of every power of two.
    flat = masks(WORDS, 0.7, (64, 256)).astype("f4")
    for distance in [1, 2, 3, 5, 7, *(2**n for n in range(2, 14)), 255, 257]:
        found = correlations(flat[:, distance:], flat[:, :-distance])
        assert np.abs(found).max() < 5.0, distance
        assert abs(found.mean()) * 8 < 4.5, distance


def test_rows_and_columns_keep_what_chance_keeps():
    cube = masks(WORDS, 0.7, (64, 256)).reshape(64, 64, 256)
    for axis, n in ((1, 64), (2, 256)):
        z = (cube.mean(axis) - 0.7) / np.sqrt(0.21 / n)
        assert np.abs(z).max() < 6.0
        assert 0.9 < (z**2).mean() < 1.1
    total = (cube.mean((1, 2)) - 0.7) / np.sqrt(0.21 / (64 * 256))
    # (A permutation of another mask would keep as many: the spread would be 0.)
    assert 0.5 < (total**2).mean() < 1.7


@pytest.mark.parametrize("axis", [1, 2], ids=["along a row", "down a column"])
def test_eight_neighbours_take_every_pattern_equally_often(axis):
    cube = masks(WORDS, 0.5, (64, 256)).reshape(64, 64, 256)
    byte = np.packbits(cube, axis=axis)
    count = np.bincount(byte.ravel(), minlength=256)
    chi2 = ((count - byte.size / 256) ** 2 / (byte.size / 256)).sum()
    assert abs(chi2 - 255) < 5 * np.sqrt(2 * 255)


def test_runs_are_as_long_as_chance_makes_them():
    flat = masks(WORDS, 0.5, (2**14,))
    ends = np.flatnonzero(np.diff(flat.ravel()))
    length = np.minimum(np.diff(ends), 10)
    count = np.bincount(length, minlength=11)[1:]
    share = np.append(0.5 ** np.arange(1, 10), 0.5**9)
    chi2 = ((count - share * len(length)) ** 2 / (share * len(length))).sum()
    assert chi2 < 9 + 5 * np.sqrt(18)


@pytest.mark.parametrize("words", [WORDS[:16], COUNTED[:24], FLIPPED[::4]])
def test_no_mask_is_a_shift_of_another(words):
    flat = masks(words, 0.5, (2**13,)).astype("f4") - 0.5
    spectrum = np.fft.rfft(flat)
    for i in range(1, len(flat)):
        shifted = np.fft.irfft(spectrum[:i] * spectrum[i].conj(), 2**13)
        z = shifted / 0.25 / np.sqrt(2**13)
        assert np.abs(z).max() < 6.5


@pytest.mark.parametrize("words", [WORDS[:16], COUNTED[:24], FLIPPED[::4]])
def test_no_mask_is_another_with_bits_of_its_index_flipped(words):
    # The same over i ^ c for every c: a Walsh-Hadamard transform does what Fourier did.
    flat = masks(words, 0.5, (2**13,)).astype("f4") - 0.5
    spectrum = walsh_hadamard(flat)
    for i in range(1, len(flat)):
        flipped = walsh_hadamard(spectrum[:i] * spectrum[i]) / 2**13
        assert np.abs(flipped / 0.25 / np.sqrt(2**13)).max() < 6.5


def walsh_hadamard(x):
    n = x.shape[-1]
    for bit in range(n.bit_length() - 1):
        pairs = x.reshape(len(x), -1, 2, 2**bit)
        sums = pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]
        x = np.stack(sums, 2).reshape(len(x), n)
    return x


def test_a_larger_array_starts_with_the_mask_of_a_smaller_one():
    word_2 = jnp.asarray(WORDS[0])
    large = mask_of_words(word_2, 0.7, (16, 8, 4))
    small = mask_of_words(word_2, 0.7, (4, 8, 4))
    np.testing.assert_array_equal(large[:4], small)
    np.testing.assert_array_equal(mask_of_words(word_2, 0.7, (128,)), small.ravel())
