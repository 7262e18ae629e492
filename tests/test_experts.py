"""models/experts.py, and what tasks make of its balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoder import Decoder
from models.experts import Experts, balance, slots
from models.mlp import activate
from models.settings import Settings
from tasks.language import Language

B, L, D, F, E = 2, 12, 8, 16, 4
SIZES = dict(width=D, num_heads=2, mlp_width=F, num_experts=E)


def apply(x_BLD, real_BL, train=False, **words):
    model = Experts(Settings(**SIZES | words))

    @jax.jit
    def run(key):
        params = model.init(key, x_BLD, real_BL, train=False)["params"]
        y_BLD, sown = model.apply(
            {"params": params}, x_BLD, real_BL, train=train, mutable=["losses"]
        )
        return params, y_BLD, sown["losses"]["balance"][0]

    return run(jax.random.key(1))


@pytest.fixture(scope="module")
def inputs():
    x_BLD = jax.random.normal(jax.random.key(0), (B, L, D))
    return x_BLD, jnp.arange(L)[None] < jnp.array([[L], [7]])


def token_by_token(params, x_D, k, activation):
    """The mixture of one token, in a loop over its experts."""
    score_E = np.asarray(x_D @ params["router"], "f8")
    best = np.argsort(-score_E, kind="stable")[:k]
    share = np.exp(score_E[best] - score_E[best].max())
    total = np.zeros(D)
    for weight, e in zip(share / share.sum(), best, strict=True):
        y_F = x_D @ params["in"][e]
        if activation == "swiglu":
            y_F = y_F * activate("swiglu", x_D @ params["gate"][e])
        else:
            y_F = activate(activation, y_F)
        total += weight * np.asarray(y_F @ params["out"][e])
    return total


@pytest.mark.parametrize(("k", "activation"), [(1, "gelu"), (2, "swiglu"), (4, "relu")])
def test_every_token_gets_the_mixture_of_its_own_experts(inputs, k, activation):
    x_BLD, real_BL = inputs
    words = dict(experts_per_token=k, activation=activation)
    words["capacity"] = 0.25  # which counts in training alone
    params, y_BLD, _ = apply(x_BLD, real_BL, **words)
    for b, l in [(0, 0), (0, L - 1), (1, 3), (1, 6)]:
        expected_D = token_by_token(params, x_BLD[b, l], k, activation)
        np.testing.assert_allclose(y_BLD[b, l], expected_D, rtol=1e-4, atol=1e-5)
    assert not y_BLD[1, 7:].any()  # padding goes nowhere


def test_room_for_all_changes_nothing_and_too_little_turns_the_last_away(inputs):
    x_BLD, real_BL = inputs
    _, free_BLD, _ = apply(x_BLD, real_BL)
    _, ample_BLD, _ = apply(x_BLD, real_BL, train=True, capacity=float(E))
    np.testing.assert_array_equal(free_BLD, ample_BLD)
    _, tight_BLD, _ = apply(
        x_BLD, real_BL, train=True, capacity=0.5, experts_per_token=1
    )
    _, alone_BLD, _ = apply(x_BLD, real_BL, experts_per_token=1)
    kept_BL = (tight_BLD != 0).any(-1)
    np.testing.assert_allclose(tight_BLD[kept_BL], alone_BLD[kept_BL], rtol=1e-5)
    assert 0 < kept_BL.sum() < real_BL.sum()
    assert (kept_BL.sum(1) <= E * 2).all()  # half of an even share of 12 is 2, up


def test_slots_are_given_in_the_order_of_the_row():
    expert_BLk = jnp.array([[[2], [0], [2], [2], [0]]])
    found = slots(expert_BLk, jnp.ones((1, 5), bool), 3, 2)[0, :, 0]
    assert found.tolist() == [4, 0, 5, 6, 1]  # 6 is E C: turned away
    padded = slots(expert_BLk, jnp.array([[True, True, False, True, True]]), 3, 2)
    assert padded[0, :, 0].tolist() == [4, 0, 6, 5, 1]


def test_padding_takes_nobody_s_place(inputs):
    x_BLD, real_BL = inputs
    junk_BLD = jnp.where(real_BL[..., None], x_BLD, 1e3)
    for train in (False, True):
        one = apply(x_BLD, real_BL, train=train, capacity=0.5)[1]
        other = apply(junk_BLD, real_BL, train=train, capacity=0.5)[1]
        np.testing.assert_array_equal(one, other)


def test_the_balance_is_1_where_even_and_e_where_one_expert_takes_all():
    real_BL = jnp.ones((B, L), bool)
    even_BLk = jnp.broadcast_to(jnp.arange(L)[None, :, None] % E, (B, L, 1))
    level_BLE = jnp.zeros((B, L, E))
    np.testing.assert_allclose(balance(level_BLE, even_BLk, real_BL), 1.0, rtol=1e-6)
    sure_BLE = level_BLE.at[..., 0].set(50.0)
    zero_BLk = jnp.zeros((B, L, 1), jnp.int32)
    np.testing.assert_allclose(balance(sure_BLE, zero_BLk, real_BL), E, rtol=1e-6)
    # Its gradient takes from the crowded: it raises the others' probability.
    grad_BLE = jax.grad(lambda z: balance(z, zero_BLk, real_BL))(level_BLE)
    assert (grad_BLE[..., 0] > 0).all()
    assert (grad_BLE[..., 1:] < 0).all()


def test_the_balance_is_part_of_the_objective_in_training_alone():
    token_BL = jax.random.randint(jax.random.key(0), (B, L), 4, 11)
    batch = dict(input_BL=token_BL, target_BL=token_BL)
    batch["segment_BL"] = jnp.ones_like(token_BL)
    scores = {}
    for weight in (0.0, 0.5):
        words = dict(balance=weight, capacity=float(E))
        task = Language(Decoder(vocab=11, num_layers=2, **SIZES, **words))
        params, key = jax.jit(task.init)(jax.random.key(0)), jax.random.key(1)
        score = jax.jit(task.score, static_argnames="train")
        scores[weight] = score(params, batch, key, train=True)
        still = score(params, batch, key, train=False)
        assert still["objective"].value == still["loss"].value
    uneven = scores[0.5]["balance"].value
    assert uneven >= 1.0
    np.testing.assert_allclose(
        scores[0.5]["objective"].value,
        scores[0.0]["objective"].value + 0.5 * uneven,
        rtol=1e-5,
    )
    assert scores[0.5]["loss"].value == scores[0.0]["loss"].value
