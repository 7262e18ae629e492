"""Sophia: that the means of its estimates are the diagonals they are meant to be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from core.mean import Mean
from models.decoder import Decoder
from models.dropout import Dropout
from models.encoder_decoder import EncoderDecoder
from models.readout import Readout
from optim.rules.sophia import sophia_g, sophia_h
from tasks import language, translation
from tasks.language import Language
from tasks.loss import drawn_targets, token_scores
from tasks.penalties import Penalties
from tasks.translation import Translation
from train.guard import Guard
from train.step import make_step, start


def quartic(w):
    """Not separable: its Hessian has many entries off the diagonal."""
    turn = jnp.arange(36.0).reshape(6, 6) % 7 - 3.0
    return jnp.sum((turn @ w) ** 2) / 20 + jnp.sum(w**4) + jnp.prod(w[:3])


def test_the_estimate_of_sophia_h_has_the_diagonal_of_the_hessian_for_its_mean():
    tx = sophia_h(b2=0.0)
    params = {"bias": jnp.linspace(-1.0, 1.5, 6)}
    grad_fn = jax.grad(lambda params: quartic(params["bias"]))

    def estimate(key):
        start = tx.init(params)
        grads = grad_fn(params)
        state = tx.update(grads, start, params, key=key, grad_fn=grad_fn)[1]
        return state.diagonal["bias"]

    @jax.jit
    def run():
        exact = jnp.diag(jax.hessian(quartic)(params["bias"]))
        return jax.vmap(estimate)(jax.random.split(jax.random.key(0), 4096)), exact

    assert_mean(*run())


def assert_mean(drawn, exact):
    """Of draws along the first axis, to four standard errors."""
    drawn, exact = np.asarray(drawn, np.float64), np.asarray(exact, np.float64)
    error = drawn.std(0) / np.sqrt(len(drawn))
    assert (error > 1e-4).all()
    assert np.abs((drawn.mean(0) - exact) / error).max() < 4


def test_the_estimate_of_sophia_g_has_the_diagonal_of_gauss_newton_for_its_mean():
    B, L, D, V = 2, 3, 4, 5
    x_BLD = jax.random.normal(jax.random.key(1), (B, L, D))
    weight_BL = jnp.ones((B, L)).at[0, 2].set(0.0)
    params = {"embed": jax.random.normal(jax.random.key(2), (V, D))}
    tx = sophia_g(b2=0.0)

    def sampled_grad_fn(params, key):
        target_BL = drawn_targets(x_BLD, Readout(params["embed"]), key, chunk=2)

        def loss(params):
            given = x_BLD, Readout(params["embed"]), target_BL, weight_BL
            scores = token_scores(*given, penalties=Penalties(), chunk=2)
            return scores["objective"].value

        return jax.grad(loss)(params), weight_BL.sum()

    def estimate(key):
        extra = dict(key=key, sampled_grad_fn=sampled_grad_fn)
        return tx.update(params, tx.init(params), params, **extra)[1].diagonal["embed"]

    def mean_loss(logit_BLV):
        target_BL = jnp.zeros((B, L), jnp.int32)  # the curvature is that of any target
        nats_BL = optax.softmax_cross_entropy_with_integer_labels(logit_BLV, target_BL)
        return (nats_BL * weight_BL).sum() / weight_BL.sum()

    @jax.jit
    def run():
        def logits(embed):
            return Readout(embed.reshape(V, D))(x_BLD).reshape(-1)

        embed = params["embed"].reshape(-1)
        inner = jax.hessian(lambda z: mean_loss(z.reshape(B, L, V)))(logits(embed))
        jacobian = jax.jacobian(logits)(embed)
        exact = jnp.diag(jacobian.T @ inner @ jacobian).reshape(V, D)
        return jax.vmap(estimate)(jax.random.split(jax.random.key(0), 4096)), exact

    assert_mean(*run())


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Its objective is w, the gradient of its drawn loss the mean of x at any key."""

    def init(self, key):
        del key
        return {"bias": jnp.zeros(())}

    def score(self, params, batch, key, *, train):
        del key, train
        loss = Mean.of(params["bias"] + 0 * batch["x_B"], batch["weight_B"])
        return {"objective": loss, "loss": loss}

    def drawn_loss(self, params, batch, key):
        del key
        return Mean.of(params["bias"] * batch["x_B"], batch["weight_B"])


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_the_diagonal_of_sophia_g_does_not_depend_on_the_pieces(pieces):
    task, tx = Drawing(), sophia_g(b2=0.5)
    weight_B = jnp.array([1, 1, 1, 0, 1, 0, 0, 0.0])  # uneven over any split
    batch = {"x_B": jnp.arange(8.0), "weight_B": weight_B}
    step = make_step(task, tx, rate=lambda step: 0.1, judge=Guard(), pieces=pieces)
    state = start(task, tx, jax.random.key(0))
    state, _ = jax.jit(step)(state, batch, jax.random.key(0))
    mean = (0 + 1 + 2 + 4) / 4
    diagonal = state.opt_state.diagonal["bias"]
    np.testing.assert_allclose(diagonal, 0.5 * 4 * mean**2, rtol=1e-6)


SIZES = dict(vocab=7, width=8, num_heads=2, mlp_width=16)
TASKS = {
    "translation": Translation(
        EncoderDecoder(**SIZES, num_encoder_layers=1, num_decoder_layers=1),
        smoothing=0.3,
        z_loss=0.1,
        chunk=2,
    ),
    "language": Language(Decoder(**SIZES, num_layers=1), smoothing=0.3),
}
INPUTS = dict(translation=translation.INPUTS, language=language.INPUTS)
SEGMENT = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]], np.int32)
TOKEN = np.array([[2, 3, 4, 5, 6, 0], [6, 2, 4, 3, 0, 0]], np.int32)
BATCH = dict(
    source_BM=TOKEN,
    source_segment_BM=SEGMENT,
    target_BL=TOKEN,
    target_segment_BL=SEGMENT,
    input_BL=TOKEN,
    segment_BL=SEGMENT,
)


@pytest.mark.parametrize("name", TASKS)
def test_drawn_targets_are_the_models_own_and_what_it_reads_stays(name):
    task = TASKS[name]
    keys = jax.random.split(jax.random.key(1), 2048)

    @jax.jit
    def run(batch):
        params = task.init(jax.random.key(0))

        def loss(key):
            return task.drawn_loss(params, batch, key)

        # The mean of -log p over draws from p is the entropy of p, at these inputs.
        inputs = [batch[key] for key in INPUTS[name]]
        logit_BLV = task.model.apply({"params": params}, *inputs, train=False)
        p_BLV = jax.nn.softmax(logit_BLV)
        entropy_BL = -(p_BLV * jax.nn.log_softmax(logit_BLV)).sum(-1)
        return jax.vmap(loss)(keys), (entropy_BL * (SEGMENT > 0)).sum()

    loss, entropy = run(BATCH)
    assert (loss.weight == 9).all()
    assert_mean(loss.total, entropy)


@pytest.mark.parametrize("kind", ["__call__", "relu"])
def test_dropout_has_the_second_derivative_that_sophia_h_asks_for(kind):
    x = jax.random.normal(jax.random.key(0), (64,))
    rngs = {"dropout": jax.random.key(1)}

    def dropped(x):
        return Dropout(0.25).apply({}, x, train=True, rngs=rngs, method=kind)

    @jax.jit
    def run(x):
        grad = jax.grad(lambda x: (dropped(x) ** 2).sum())
        return jax.jvp(grad, (x,), (jnp.ones_like(x),))[1], dropped(x) / x

    curve, slope = run(x)
    assert 0 < (slope == 0).sum() < 64
    np.testing.assert_allclose(curve, 2 * slope**2, rtol=1e-5)


@pytest.mark.slow
def test_a_model_takes_a_step_of_sophia_h():
    sizes = dict(SIZES, num_layers=1, dropout=0.1)
    task = Language(Decoder(**sizes), chunk=2)
    tx, rate = optim.make(
        rule=dict(name="sophia_h"),
        schedule=dict(name="linear", peak=1e-3, warmup_steps=0),
        num_steps=8,
    )
    step = jax.jit(make_step(task, tx, rate=rate, judge=Guard()))
    state, losses = jax.jit(lambda key: start(task, tx, key))(jax.random.key(0)), []
    for _ in range(8):
        state, scores = step(state, BATCH, jax.random.key(0))
        losses.append(float(scores["loss"].value))
    assert sum(losses[4:]) < sum(losses[:4])
    for h in jax.tree.leaves(state.opt_state["rule"].diagonal):
        assert h.any()
        assert jnp.isfinite(h).all()
