"""models/rotary.py and the distances of models/attend/bias.py, against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attend.bias import Ranges, Relative, alibi
from models.rotary import frequencies, rotation
from models.settings import Settings

SIZES = dict(width=256, num_heads=4, mlp_width=1, position="rotary")

# Of transformers 5.23: every 8th distance from -200 to 200, key minus query.
RANGES_BOTH = [15] * 14 + [14] * 4 + [13, 13, 12, 12, 11, 10, 8, 0, 24, 26, 27]
RANGES_BOTH += [28, 28, 29, 29] + [30] * 4 + [31] * 14
RANGES_PAST = [31] * 11 + [30, 30, 29, 29, 28, 27, 26, 25, 24, 23, 21, 19, 16, 8]
RANGES_PAST += [0] * 26
# Of the same: heads of 64, base 500,000, eight times 8192 places; every 4th.
LLAMA3 = [1.0, 0.193922758, 0.037606031, 7.29266508e-3, 5.24846022e-4, 3.42810235e-5]
LLAMA3 += [6.64786967e-6, 1.28917316e-6]


@pytest.mark.parametrize(
    ("causal", "expected"), [(False, RANGES_BOTH), (True, RANGES_PAST)]
)
def test_distances_fall_into_the_ranges_of_t5(causal, expected):
    ahead_1M = jnp.arange(-200, 201, 8)[None]
    found = Ranges(32, 128, causal).of(ahead_1M)[0]
    # Their list of both ways was thinned alike.
    np.testing.assert_array_equal(found, expected[: len(found)])


def test_a_relative_bias_looks_its_distance_up():
    distance_RH = jnp.arange(64.0).reshape(32, 2)
    bias_HLM = Relative(distance_RH, Ranges()).at(jnp.arange(3), jnp.arange(4))
    assert bias_HLM.shape == (2, 3, 4)
    assert bias_HLM[0, 2].tolist() == [2 * 2, 1 * 2, 0, 17 * 2]
    assert bias_HLM[1, 0].tolist() == [1, 17 * 2 + 1, 18 * 2 + 1, 19 * 2 + 1]


@pytest.mark.parametrize(
    ("num_heads", "slopes"),
    [
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        (6, [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]),
    ],
)
def test_alibi_takes_the_slopes_of_its_paper(num_heads, slopes):
    bias = alibi(num_heads)
    np.testing.assert_allclose(bias.slope_H, slopes)
    bias_HLM = bias.at(jnp.arange(3), jnp.arange(3))
    np.testing.assert_allclose(bias_HLM[:, 2, 0], -2 * np.array(slopes))
    np.testing.assert_allclose(bias_HLM[:, 1, 1], 0)


def scores(settings, place_BL, query_BLHK, key_BLHK):
    turn = rotation(settings, place_BL)
    return jnp.einsum("BLHK,BMHK->BHLM", turn(query_BLHK), turn(key_BLHK))


def test_turned_scores_depend_on_the_distance_alone():
    settings = Settings(**SIZES)
    query_BLHK, key_BLHK = jax.random.normal(jax.random.key(0), (2, 1, 5, 4, 64))
    place_BL = jnp.array([[0, 1, 2, 5, 9]])
    here = scores(settings, place_BL, query_BLHK, key_BLHK)
    there = scores(settings, place_BL + 1000, query_BLHK, key_BLHK)
    np.testing.assert_allclose(here, there, atol=2e-3)
    assert (
        jnp.abs(here - scores(settings, 2 * place_BL, query_BLHK, key_BLHK)).max() > 1
    )


def test_at_place_0_nothing_turns_and_lengths_stay():
    x_BLHK = jax.random.normal(jax.random.key(0), (1, 2, 4, 64))
    turned = rotation(Settings(**SIZES), jnp.array([[0, 77]]))(x_BLHK)
    np.testing.assert_array_equal(turned[:, 0], x_BLHK[:, 0])
    norms = [jnp.linalg.norm(x, axis=-1) for x in (turned, x_BLHK)]
    np.testing.assert_allclose(*norms, rtol=1e-5)
    assert jnp.abs(turned[:, 1] - x_BLHK[:, 1]).max() > 0.1


def test_pairs_turn_by_powers_of_the_base():
    found = frequencies(Settings(**SIZES, rotary_base=100.0))
    np.testing.assert_allclose(found, 100.0 ** (-np.arange(32) / 32), rtol=1e-5)


def test_linear_scaling_divides_places():
    scaled = Settings(**SIZES, rotary_scaling="linear", rotary_factor=4.0)
    np.testing.assert_allclose(
        rotation(scaled, jnp.array([[8]])).sin_BLJ,
        rotation(Settings(**SIZES), jnp.array([[2]])).sin_BLJ,
        rtol=1e-5,
    )


def test_ntk_scaling_slows_the_slowest_pair_by_the_factor_and_the_first_not():
    scaled = Settings(**SIZES, rotary_scaling="ntk", rotary_factor=4.0)
    ratio_J = frequencies(Settings(**SIZES)) / frequencies(scaled)
    np.testing.assert_allclose(ratio_J[jnp.array([0, -1])], [1.0, 4.0], rtol=1e-4)
    assert jnp.all(jnp.diff(ratio_J) > 0)


def test_llama3_scaling_is_that_of_its_release():
    scaled = Settings(
        **SIZES, rotary_base=5e5, rotary_scaling="llama3", rotary_factor=8.0
    )
    np.testing.assert_allclose(frequencies(scaled)[::4], LLAMA3, rtol=1e-5)
