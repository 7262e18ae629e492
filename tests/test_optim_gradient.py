"""optim/: what is done to a gradient, and caution about steps and decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from optim import GRADIENT, links, start
from optim.cautious import add_agreeing, cautious
from optim.gradient import gradient, sharpness_aware


def tree(seed=0):
    """Two scanned layers, a kernel of three axes among their leaves, and a table."""
    random = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)  # noqa: E731
    layers = {
        "attention": {"query": normal(2, 4, 3, 2)},
        "norm": {"scale": normal(2, 4)},
    }
    return {"embed": normal(5, 4), "layers": layers}


def step(tx, grads, params, **extra):
    """The updates of one step; several links may be there, or none."""
    return jax.jit(lambda: tx.update(grads, tx.init(params), params, **extra)[0])()


def only(block):
    ((_, link),) = block
    return link


def matrices(leaf):
    """Of a stacked kernel: one (in, out) a layer, in float64."""
    return np.asarray(leaf, np.float64).reshape(len(leaf), leaf.shape[1], -1)


def test_what_is_off_is_no_link():
    assert gradient() == ()
    assert [name for name, _ in gradient(noise=0.1, centralize=True)] == [
        "centralize",
        "noise",
    ]


def test_clipping_by_value_and_by_share():
    params, grads = tree(), jax.tree.map(lambda g: 100 * g, tree(1))
    found = step(only(gradient(clip_value=7.0)), grads, params)
    for u, g in zip(jax.tree.leaves(found), jax.tree.leaves(grads), strict=True):
        np.testing.assert_array_equal(u, np.clip(g, -7, 7))
    found = step(only(gradient(clip_share=0.02)), grads, params)
    for u, g, w in zip(
        *(matrices(t["layers"]["attention"]["query"]) for t in (found, grads, params)),
        strict=True,
    ):
        most = 0.02 * np.linalg.norm(w, axis=0)
        assert (np.linalg.norm(g, axis=0) > most).all()
        np.testing.assert_allclose(np.linalg.norm(u, axis=0), most, rtol=1e-5)
        np.testing.assert_allclose(u / g, np.broadcast_to((u / g)[:1], u.shape), 1e-4)
    calm = jax.tree.map(lambda g: 1e-6 * g, grads)
    found = step(only(gradient(clip_share=0.02)), calm, params)
    jax.tree.map(np.testing.assert_array_equal, found, calm)


def test_centralized_gradients_have_no_mean_over_the_inputs_of_a_unit():
    params, grads = tree(), tree(1)
    found = step(only(gradient(centralize=True)), grads, params)
    for u, g in zip(
        *(matrices(t["layers"]["attention"]["query"]) for t in (found, grads)),
        strict=True,
    ):
        np.testing.assert_allclose(u, g - g.mean(0), atol=1e-6)
    np.testing.assert_array_equal(
        found["layers"]["norm"]["scale"], grads["layers"]["norm"]["scale"]
    )


def test_noise_has_the_variance_of_its_step_and_other_values_at_other_keys():
    params = {"embed": jnp.zeros((200, 200))}
    link = only(gradient(noise=0.3, noise_power=0.55))
    draw = jax.jit(
        lambda key, number: link.update(
            params, link.init(params), params, key=key, step=number
        )[0]["embed"]
    )
    for number in (0, 9, 999):
        noise = draw(jax.random.key(number), number)
        wanted = 0.3 / (1 + number) ** 0.55
        assert abs(noise.var() / wanted - 1) < 5 / np.sqrt(40_000 / 2)
        assert abs(noise.mean()) < 5 * np.sqrt(wanted / 40_000)
    one, other = (draw(jax.random.key(seed), 0) for seed in (1, 2))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_takes_the_gradient_at_the_steepest_point_of_its_ball(adaptive):
    params, goal = tree(), tree(2)
    curve = jax.tree.map(lambda w: 1 + w**2, tree(3))

    def grad_fn(params):
        return jax.tree.map(lambda w, a, h: h * (w - a), params, goal, curve)

    tx, _ = optim.make(
        rule=dict(name="gradient_descent"),
        schedule=dict(name="constant", peak=1.0, warmup_steps=0),
        num_steps=9,
        sam_radius=0.3,
        sam_adaptive=adaptive,
    )
    grads = grad_fn(params)
    found = step(tx, grads, params, step=0, grad_fn=grad_fn)
    flat = lambda t: np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)])  # noqa: E731
    g, w, h, a = (np.asarray(flat(t), "f8") for t in (grads, params, curve, goal))
    scale = np.abs(w) if adaptive else np.ones_like(w)
    push = 0.3 * scale**2 * g / np.linalg.norm(scale * g)
    assert np.linalg.norm(push / scale) == pytest.approx(0.3)
    np.testing.assert_allclose(flat(found), h * (a - w - push), rtol=1e-4, atol=1e-5)


def test_sam_of_no_radius_is_the_gradient_and_one_of_no_gradient_is_finite():
    params = tree()
    link = sharpness_aware(jnp.float32(0.0), adaptive=False)
    found = step(link, tree(1), params, grad_fn=lambda params: tree(1))
    jax.tree.map(np.testing.assert_array_equal, found, tree(1))
    zero = jax.tree.map(jnp.zeros_like, params)
    link = sharpness_aware(0.05, adaptive=True)
    found = step(link, zero, params, grad_fn=lambda params: params)
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_mixout_takes_the_gradient_where_some_entries_are_as_they_began():
    kernel = jnp.zeros((2, 40, 3, 20))
    was = {"query": kernel + 1.0, "bias": jnp.ones(7)}
    now = {"query": kernel + 1.5, "bias": 3 * jnp.ones(7)}
    link = start.mixout(0.8)
    state = jax.jit(link.init)(was)

    @jax.jit
    def found(key):
        given = dict(key=key, grad_fn=lambda w: jax.tree.map(lambda x: 2 * x, w))
        return link.update(was, state, now, **given)[0]

    one, other = (np.asarray(found(jax.random.key(n))["query"]) for n in (0, 1))
    mixed = 1.0 + 0.5 / 0.2
    assert np.unique(one) == pytest.approx([0.0, 2 * mixed / 0.2])
    assert (one > 0).mean() == pytest.approx(0.2, abs=0.02)
    assert ((one > 0) & (other > 0)).mean() == pytest.approx(0.04, abs=0.01)
    np.testing.assert_array_equal(found(jax.random.key(0))["bias"], 6 * np.ones(7))


def test_mixout_of_no_share_is_the_gradient_and_needs_sam_to_be_off():
    params, grads = tree(), tree(1)
    given = dict(key=jax.random.key(0), grad_fn=lambda params: grads)
    found = step(start.mixout(jnp.float32(0.0)), grads, params, **given)
    jax.tree.map(np.testing.assert_array_equal, found, grads)
    words = dict(rule={}, schedule={}, sam_radius=0.1)
    with pytest.raises(ValueError, match=r"^optim.sam_radius=0.1 and optim.mixout=0.5"):
        optim.OPTIM.check(**words, mixout=0.5)


def test_a_cautious_step_never_climbs_and_is_the_rule_where_they_agree():
    params, grads = tree(), tree(1)
    tx = cautious(optax.with_extra_args_support(optax.scale_by_adam()))
    state = tx.init(params)
    update = jax.jit(tx.update)
    for number in range(5):
        grads = jax.tree.map(lambda g, n=number: jnp.cos(5.0 * g + n), grads)
        updates, state = update(grads, state, params)
        for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(grads), strict=True):
            assert (u * g >= 0).all()
        assert not number or any((u == 0).any() for u in jax.tree.leaves(updates))
    same = cautious(optax.with_extra_args_support(optax.identity()))
    jax.tree.map(np.testing.assert_array_equal, step(same, grads, params), grads)


def test_a_cautious_step_is_as_long_as_it_was_layer_by_layer():
    params = {"layers": {"mlp": {"in": jnp.ones((2, 2, 3))}}}
    u = jnp.arange(1.0, 13.0).reshape(2, 2, 3)
    g = jnp.where(jnp.arange(12).reshape(2, 2, 3) % 3 == 0, -1.0, 1.0)
    g = g.at[1].set(1.0)

    u_tree = {"layers": {"mlp": {"in": u}}}
    grads = {"layers": {"mlp": {"in": g}}}
    rule = optax.stateless(lambda updates, params: u_tree)
    tx = cautious(optax.with_extra_args_support(rule))
    found = tx.update(grads, tx.init(params), params)[0]["layers"]["mlp"]["in"]
    np.testing.assert_allclose(found[0], jnp.where(g[0] > 0, u[0], 0) * 1.5, rtol=1e-6)
    np.testing.assert_array_equal(found[1], u[1])


def test_cautious_decay_is_that_of_kernels_whose_step_leads_to_zero():
    params, updates = tree(), tree(1)
    found = step(add_agreeing(0.1), updates, params)
    w, u = (
        params["layers"]["attention"]["query"],
        updates["layers"]["attention"]["query"],
    )
    wanted = u + 0.1 * jnp.where(u * w >= 0, w, 0.0)
    np.testing.assert_allclose(found["layers"]["attention"]["query"], wanted, 1e-6)
    np.testing.assert_array_equal(found["embed"], updates["embed"])


@pytest.mark.parametrize("kind", ["decoupled", "independent"])
def test_without_gradient_decay_is_the_product_of_its_steps(kind):
    schedule = dict(name="linear", peak=0.5, warmup_steps=3)
    tx, rate = optim.make(
        rule=dict(name="adam"),
        decay=0.3,
        decay_kind=kind,
        schedule=schedule,
        num_steps=20,
    )
    params = {"mlp": {"in": jnp.ones((2, 3))}}
    zero = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def run():
        def one(carry, number):
            updates, state = tx.update(zero, carry[1], carry[0], step=number)
            return (jax.tree.map(jnp.add, carry[0], updates), state), None

        return jax.lax.scan(one, (params, tx.init(params)), jnp.arange(20))[0][0]

    rates = np.array([rate(number) for number in range(20)], np.float64)
    share = 1.0 if kind == "decoupled" else 2.0
    np.testing.assert_allclose(
        run()["mlp"]["in"], np.full((2, 3), np.prod(1 - share * 0.3 * rates)), rtol=1e-5
    )


def test_l2_start_pulls_to_where_training_began():
    params, grads = tree(), tree(1)
    link = start.add_distance(0.25)
    state = link.init(params)
    moved = jax.tree.map(lambda w: w + 2.0, params)
    found = link.update(grads, state, moved)[0]
    jax.tree.map(
        lambda u, g: np.testing.assert_allclose(u, g + 0.5, rtol=1e-5, atol=1e-6),
        found,
        grads,
    )


def test_updates_are_clipped_by_the_rms_of_each_layer():
    params = tree()
    u = jnp.stack([jnp.full((4, 3, 2), 5.0), jnp.full((4, 3, 2), 0.5)])
    updates = params | {"layers": params["layers"] | {"attention": {"query": u}}}
    found = step(links.clip_rms(2.0), updates, params)["layers"]["attention"]["query"]
    np.testing.assert_allclose(found[0], 2.0, rtol=1e-6)
    np.testing.assert_array_equal(found[1], u[1])


def test_every_number_of_the_block_has_a_range_that_holds_its_neutral():
    for key, within in GRADIENT.ranges.items():
        assert within.neutral is None or within.holds(within.neutral), key
