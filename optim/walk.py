"""The walk of the parameters, as what stands around the chain follows it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree


def periods(step: ArrayLike, every_steps: int, start_step: int = 0) -> Array:
    """How many periods of `every_steps` are over after `step`, from `start_step` on.

    What is due once a period keeps this number, and is done when it grows. A step that
    a guard skips changes no state, and the global step goes on: so what was due at it
    is done at the next step that is taken, late and not lost, and then on time again.

    >>> [int(periods(step, 3)) for step in (0, 1, 2, 3, 5)]
    [0, 0, 1, 1, 2]
    """
    steps = jnp.asarray(step, jnp.int32) + (1 - start_step)
    return jnp.maximum(steps, 0) // every_steps


def landed(params: PyTree, updates: PyTree) -> PyTree:
    """The parameters after `updates`, as the train step will have them."""
    return jax.tree.map(lambda w, u: w + u.astype(w.dtype), params, updates)


def either(new_if: Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` where `new_if` holds, else `old`: a tree chosen as a whole."""
    return jax.tree.map(lambda n, o: jnp.where(new_if, n, o), new, old)


def mixed(mean: PyTree, params: PyTree, share: Array) -> PyTree:
    """mean + share (params - mean), in the mean's dtypes.

    To the bit the one at share 0, the other at share 1, and both where they agree.

    >>> mixed(jnp.array([0.1, 0.3]), jnp.array([0.3, 0.3]), jnp.array(1.0)).tolist()
    [0.30000001192092896, 0.30000001192092896]
    """

    def mix(m, w):
        return jnp.where(share < 1, m + share * (w - m), w).astype(m.dtype)

    return jax.tree.map(mix, mean, params)


def copied(params: PyTree) -> PyTree:
    """Arrays of their own: a state is given away beside the parameters it began as."""
    return jax.tree.map(jnp.copy, params)


def widened(params: PyTree) -> PyTree:
    """Copies in float32 at least: small shares of bfloat16 numbers would get lost."""
    return jax.tree.map(
        lambda w: jnp.array(w, jnp.promote_types(w.dtype, jnp.float32)), params
    )
