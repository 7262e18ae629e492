"""tasks/loss.py"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.readout import Readout
from tasks.loss import token_scores
from tasks.penalties import Penalties

B, L, D, V = 3, 10, 6, 11


@pytest.fixture(scope="module")
def inputs():
    keys = jax.random.split(jax.random.key(0), 5)
    x_BLD = jax.random.normal(keys[0], (B, L, D))
    readout = Readout(
        2 * jax.random.normal(keys[1], (V, D)), jax.random.normal(keys[2], (V,))
    )
    target_BL = jax.random.randint(keys[3], (B, L), 0, V)
    weight_BL = jax.random.bernoulli(keys[4], 0.8, (B, L)).astype(jnp.float32)
    return x_BLD, readout, target_BL, weight_BL


def ours(x_BLD, readout, target_BL, weight_BL, *, smoothing=0.0, z_loss=0.0, chunk=0):
    penalties = Penalties.of(smoothing=smoothing, z_loss=z_loss)
    given = x_BLD, readout, target_BL, weight_BL
    return token_scores(*given, penalties=penalties, chunk=chunk)


def theirs(x_BLD, readout, target_BL, weight_BL, *, smoothing=0.0, z_loss=0.0):
    """Whole logits, one-hot targets."""
    logit_BLV = readout(x_BLD)
    target_BLV = optax.smooth_labels(jax.nn.one_hot(target_BL, V), smoothing)
    nats_BL = optax.softmax_cross_entropy(logit_BLV, target_BLV)
    nats_BL += z_loss * jax.nn.logsumexp(logit_BLV, axis=-1) ** 2
    return (nats_BL * weight_BL).sum()


@pytest.mark.parametrize("chunk", [0, 1, 4, 5, 10, 99])
@pytest.mark.parametrize(
    "numbers", [{}, dict(smoothing=0.1), dict(smoothing=0.9, z_loss=0.01)]
)
def test_it_equals_whole_logits_and_one_hot_targets(inputs, chunk, numbers):
    x_BLD, readout, target_BL, weight_BL = inputs

    def of(function):
        def objective(x_BLD, readout):
            return 3.0 * function(x_BLD, readout, target_BL, weight_BL, **numbers)

        return jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))(x_BLD, readout)

    def total(*args, **numbers):
        return ours(*args, **numbers, chunk=chunk)["objective"].total

    (actual, grads), (expected, wanted) = of(total), of(theirs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        grads,
        wanted,
    )
    eager = ours(*inputs, **numbers, chunk=chunk)
    np.testing.assert_allclose(3 * eager["objective"].total, expected, rtol=1e-5)
    plain = theirs(*inputs)
    np.testing.assert_allclose(eager["loss"].total, plain, rtol=1e-5)
    assert eager["loss"].weight == weight_BL.sum()


def test_a_softcap_has_its_gradient(inputs):
    x_BLD, readout, *rows = inputs
    readout = readout._replace(softcap=3.0)
    assert jnp.abs(readout(x_BLD)).max() < 3.0

    def grad(function):
        return jax.jit(jax.grad(lambda x, r: function(x, r, *rows)))(x_BLD, readout)

    actual = grad(lambda *args: ours(*args, chunk=4)["objective"].total)
    np.testing.assert_allclose(actual, grad(theirs), rtol=1e-4, atol=1e-6)


def test_only_the_objective_has_a_gradient(inputs):
    x_BLD, *rest = inputs
    for name in ("loss", "accuracy"):
        grad = jax.grad(lambda x, name=name: ours(x, *rest, smoothing=0.1)[name].total)
        assert not grad(x_BLD).any()


def test_the_z_loss_pushes_the_normalizer_alone(inputs):
    x_BLD, readout, target_BL, weight_BL = inputs

    def total(bias_V, z_loss):
        moved = readout._replace(bias_V=bias_V)
        scores = ours(x_BLD, moved, target_BL, weight_BL, z_loss=z_loss)
        return scores["objective"].total

    grad = jax.jit(jax.grad(total))
    with_V, without_V = grad(readout.bias_V, 0.01), grad(readout.bias_V, 0.0)
    # sum_i dz_i of c log^2 Z is 2 c log Z, and that of cross-entropy is 0.
    normalizer_BL = jax.nn.logsumexp(readout(x_BLD), axis=-1)
    expected = 2 * 0.01 * (normalizer_BL * weight_BL).sum()
    np.testing.assert_allclose(with_V.sum(), expected, rtol=1e-4)
    np.testing.assert_allclose(without_V.sum(), 0, atol=1e-4)


def test_huge_logits_give_a_finite_loss(inputs):
    x_BLD, *rest = inputs
    scores = ours(1e15 * x_BLD, *rest, smoothing=0.1, chunk=4)
    assert jnp.isfinite(scores["objective"].total)


def test_a_hit_is_a_target_that_ranks_first(inputs):
    x_BLD, readout, target_BL, weight_BL = inputs
    hit_BL = readout(x_BLD).argmax(-1) == target_BL
    scores = ours(*inputs, chunk=3)
    assert scores["accuracy"].total == (hit_BL * weight_BL).sum() > 0


def test_logits_of_a_long_row_are_never_whole():
    rows, width, long = 1, 8, 4096
    x_BLD = jax.ShapeDtypeStruct((rows, long, width), jnp.float32)
    readout = Readout(jax.ShapeDtypeStruct((512, width), jnp.float32))
    target_BL = jax.ShapeDtypeStruct((rows, long), jnp.int32)
    weight_BL = jax.ShapeDtypeStruct((rows, long), jnp.float32)

    def temporary_bytes(chunk):
        def objective(x_BLD, readout, *rows):
            return ours(x_BLD, readout, *rows, chunk=chunk)["objective"].total

        grad = jax.jit(jax.grad(objective, argnums=(0, 1)))
        compiled = grad.lower(x_BLD, readout, target_BL, weight_BL).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = rows * long * 512 * 4
    assert temporary_bytes(64) < whole / 8 < whole < temporary_bytes(0)


def test_second_derivatives_pass_through(inputs):
    x_BLD, readout, target_BL, weight_BL = inputs

    def gradient(function):
        def energy(x_BLD):
            objective = functools.partial(function, readout=readout)
            grad = jax.grad(lambda x: objective(x))(x_BLD)
            return (grad**2).sum()

        return jax.jit(jax.grad(energy))(x_BLD)

    def mine(x_BLD, readout):
        scores = ours(x_BLD, readout, target_BL, weight_BL, chunk=4)
        return scores["objective"].total

    def whole(x_BLD, readout):
        return theirs(x_BLD, readout, target_BL, weight_BL)

    expected = gradient(whole)
    # Entries are sums of terms as large as the largest, whose rounding they share.
    rounding = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(gradient(mine), expected, rtol=0, atol=rounding)
