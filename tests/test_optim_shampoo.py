"""SOAP and Shampoo: what their papers' theorems and simplest cases say."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optim.rules.adam import adam
from optim.rules.shampoo import shampoo
from optim.rules.soap import soap
from tests.optimizing import normal, play


def test_soap_without_rotated_sides_is_adam_from_the_second_step_on():
    grads = {"embed": normal((12, 3, 5)), "bias": normal((12, 4))}
    new = play(soap(b1=0.9, b2=0.99, max_side=2, every_steps=2), grads)
    late = jax.tree.map(lambda g: g[1:], grads)
    wanted = play(optax.with_extra_args_support(adam(b1=0.9, b2=0.99)), late)
    for name, u in new.items():
        assert not u[0].any()
        np.testing.assert_allclose(u[1:], wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["soap", "shampoo"])
def test_a_rotated_gradient_has_a_rotated_update(rule):
    tx = dict(soap=soap(every_steps=3), shampoo=shampoo(graft="none", every_steps=3))
    # Square, for the basis of what no gradient has turned to is any.
    grads = normal((12, 5, 5))
    left, right = jnp.linalg.qr(normal((2, 5, 5), seed=1))[0]
    new = play(tx[rule], {"embed": grads})["embed"]
    turned = play(tx[rule], {"embed": left @ grads @ right})["embed"]
    np.testing.assert_allclose(turned, left @ new @ right, rtol=0, atol=2e-4)


def test_shampoo_of_diagonal_gradients_is_adagrad():
    numbers = dict(b1=0.0, b2=1.0, root_eps=1e-12, every_steps=1)
    tx = shampoo(statistics="sum", graft="none", **numbers)
    diagonals = normal((8, 4))
    grads = jax.vmap(jnp.diag)(diagonals)
    new = play(tx, {"embed": grads})["embed"]
    wanted = diagonals / jnp.sqrt(jnp.cumsum(diagonals**2, axis=0))
    np.testing.assert_allclose(new, jax.vmap(jnp.diag)(wanted), atol=1e-5)
    # With one entry at a time, also the one of full matrices, over all 16 entries.
    single = grads * jnp.tile(jnp.eye(4), (2, 1))[..., None]
    new = play(tx, {"embed": single})["embed"]
    flat = np.asarray(single, np.float64).reshape(8, 16)
    for t in range(4, 8):
        square = flat[: t + 1].T @ flat[: t + 1]
        value, vector = np.linalg.eigh(square)
        power = np.where(value > 1e-12, np.maximum(value, 1e-12) ** -0.5, 0.0)
        full = vector @ np.diag(power) @ vector.T @ flat[t]
        np.testing.assert_allclose(new[t].reshape(-1), full, atol=1e-5)


def test_shampoo_without_memory_gives_the_polar_factor():
    numbers = dict(b1=0.0, b2=0.0, root_eps=1e-9, every_steps=1)
    grads = normal((3, 4, 4))
    new = play(shampoo(graft="none", **numbers), {"embed": grads})["embed"]
    left, _, right = np.linalg.svd(np.asarray(grads, np.float64))
    np.testing.assert_allclose(new, left @ right, rtol=0, atol=2e-4)


def test_grafted_shampoo_is_as_long_as_adam_and_on_vectors_is_adam():
    size = jnp.array([1e-3, 1.0, 1e3])  # of each layer's gradients
    grads = {
        "mlp": {"in": size[None, :, None, None] * normal((9, 1, 5, 7))},
        "norm": {"scale": size[None, :, None] * normal((9, 1, 4))},
    }
    tx = shampoo(block=3, every_steps=2, root_eps=1e-3)
    new = play(tx, {"layers": grads})["layers"]
    wanted = play(optax.with_extra_args_support(adam()), {"layers": grads})["layers"]
    np.testing.assert_allclose(new["norm"]["scale"], wanted["norm"]["scale"], rtol=1e-5)
    one, other = (jnp.linalg.norm(u["mlp"]["in"], axis=(2, 3)) for u in (new, wanted))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    small, middle, large = jnp.moveaxis(new["mlp"]["in"], 1, 0)
    np.testing.assert_allclose(small, middle, atol=2e-3)  # eps is 1e-5 of the small
    np.testing.assert_allclose(large, middle, atol=2e-3)


STACKED = {"soap": soap(every_steps=2), "shampoo": shampoo(every_steps=2, block=4)}


@pytest.mark.parametrize("rule", STACKED)
def test_stacked_layers_are_each_on_their_own(rule):
    grads = {"mlp": {"in": normal((6, 2, 3, 5))}, "norm": {"scale": normal((6, 2, 4))}}
    stacked = play(STACKED[rule], {"layers": grads})["layers"]
    for i in range(2):
        layer = jax.tree.map(lambda g, i=i: g[:, i], grads)
        own = play(STACKED[rule], layer)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[:, i], b, atol=1e-5),
            stacked,
            own,
        )


def primitives(jaxpr, outside=True):
    """The primitives of a program; without what stands under a condition."""
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        if eqn.primitive.name == "cond" and outside:
            continue
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from primitives(inner, outside)


@pytest.mark.parametrize("rule", STACKED)
def test_stacked_layers_too_pay_for_matrices_only_where_they_are_renewed(rule):
    tx = STACKED[rule]
    params = {"layers": {"mlp": {"in": jnp.zeros((2, 3, 5))}}}

    def step(grads, state):
        return tx.update(grads, state, grads, step=0)

    program = jax.make_jaxpr(step)(params, tx.init(params)).jaxpr
    everywhere = set(primitives(program, outside=False))
    assert {"eigh"} <= everywhere
    assert not {"eigh", "householder_product", "qr", "geqrf"} & set(primitives(program))
