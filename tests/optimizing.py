"""What tests of optim/ share: a bowl, and the problem that other packages were given.

The problem is that of tests/golden/make_optim.py; the files there are what they did.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optim

GOLDEN = pathlib.Path(__file__).parent / "golden"
NUM_STEPS = 64
# How far Muon moves a matrix in every direction.
SCALES = {
    "rms": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
    "shape": lambda rows, columns: max(1, columns / rows) ** 0.5,
    "none": lambda rows, columns: 1.0,
}
SELF = {name: (name,) for name in ("key", "in", "bias")}


def goal():
    """A tree with scanned layers, and no two numbers alike: the bottom of the bowl."""
    shapes = {
        "embed": (8, 4),
        "layers": {"mlp": {"in": (2, 4, 8)}, "norm": {"scale": (2, 4)}},
    }
    shapes, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    pairs = zip(keys, shapes, strict=True)
    return jax.tree.unflatten(treedef, [jax.random.normal(k, s) for k, s in pairs])


def zeros():
    return jax.tree.map(jnp.zeros_like, goal())


def spread(tree):
    """One like `goal()`, its rows over four devices."""
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
    rows = {
        "embed": PartitionSpec("fsdp"),
        "layers": {
            "mlp": {"in": PartitionSpec(None, "fsdp")},
            "norm": {"scale": PartitionSpec(None, "fsdp")},
        },
    }
    rows = jax.tree.map(functools.partial(NamedSharding, mesh), rows)
    return jax.device_put(tree, rows)


def normal(shapes, seed=0):
    """A tree of such arrays."""
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    rng = np.random.default_rng(seed)
    draws = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in leaves]
    return jax.tree.unflatten(treedef, draws)


def orthogonal(rows, columns, seed):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    return q if rows >= columns else q.T


def matrix(rows, columns, seed=0):
    """One with singular values from 0.02 of its norm up."""
    rank = min(rows, columns)
    left, right = orthogonal(rows, rank, seed), orthogonal(rank, columns, seed + 1)
    return jnp.asarray(left * np.linspace(0.07, 1, rank) @ right, jnp.float32)


def distance(tree, other):
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), tree, other)
    return sum(jax.tree.leaves(squares))


def traced(values):
    return {key: jnp.float32(value) for key, value in values.items()}


def assert_close(tree, other, rtol=1e-5, atol=1e-6):
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    jax.tree.map(close, tree, other)


def shapes_of(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@functools.cache
def load(file):
    with np.load(GOLDEN / f"{file}.npz") as found:
        return dict(found)


def case_of(file, case):
    """The paths of a case in a golden file, by name."""
    return {name: load(file)[f"{case}/{name}"] for name in SELF}


def problem(dtype=np.float32):
    """Start, goal, curve and noise."""
    return [
        {name: x.astype(dtype) for name, x in case_of("optim", kind).items()}
        for kind in ("start", "goal", "curve", "noise")
    ]


def gradient(xp, params, goal, curve, noise):
    return {
        n: curve[n] * (w - goal[n]) + 0.3 * xp.sin(2 * w) + noise[n]
        for n, w in params.items()
    }


def nested(named, places):
    """The tree that has what is called so at its place."""
    tree = {}
    for name, x in named.items():
        *parents, leaf = places[name]
        part = tree
        for parent in parents:
            part = part.setdefault(parent, {})
        part[leaf] = x
    return tree


def by_name(tree, places):
    """What `nested` was given."""
    return {
        name: functools.reduce(lambda part, key: part[key], place, tree)
        for name, place in places.items()
    }


def follow(places=SELF, given=None, **words):
    """The parameters after every step of a chain, stacked, from each at its place."""
    start, goal, curve, noise = problem() if given is None else given
    num_steps = len(next(iter(noise.values())))
    tx, _ = optim.make(num_steps=num_steps, **words)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise = now

            def grad_fn(params):
                named = by_name(params, places)
                return nested(gradient(jnp, named, goal, curve, noise), places)

            key = jax.random.fold_in(jax.random.key(0), number)
            extra = dict(step=number, key=key, grad_fn=grad_fn)
            updates, state = tx.update(grad_fn(params), state, params, **extra)
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), params

        steps = jnp.arange(num_steps), noise
        return jax.lax.scan(step, (start, tx.init(start)), steps)[1]

    path = run(nested(start, places), goal, curve, noise)
    return by_name(jax.device_get(path), places)


@functools.cache
def _player(tx, extra):
    @jax.jit
    def run(grads):
        params = jax.tree.map(lambda g: jnp.zeros_like(g[0]), grads)

        def step(carry, grads):
            state, number = carry
            given = dict(extra, key=jax.random.fold_in(jax.random.key(1), number))
            updates, state = tx.update(grads, state, params, step=number, **given)
            return (state, number + 1), updates

        return jax.lax.scan(step, (tx.init(params), 0), grads)[1]

    return run


def play(tx, grads, **extra):
    """The updates of a rule for the gradients of a tree, one after another."""
    return _player(tx, tuple(extra.items()))(grads)


def assert_path(found, wanted, atol=5e-6):
    """Of steps to the last one, of which more may be found than wanted.

    A path that goes nowhere proves nothing.
    """
    for name, path in wanted.items():
        assert np.abs(path[-1] - path[0]).max() > 0.1
        stride = len(found[name]) // (len(path) - 1)
        later = found[name][::-stride][: len(path) - 1][::-1]
        np.testing.assert_allclose(later, path[1:], rtol=0, atol=atol)
