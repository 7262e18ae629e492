"""Walks of a chain and of what is evaluated of it, with steps that a guard skips."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optim
from optim import walk
from tests.optimizing import NUM_STEPS, gradient, problem

CONSTANT = dict(name="constant", peak=0.02, warmup_steps=0)


def follow(*, skipped=(), **options):
    """Parameters before each step and after the last, and what is evaluated there.

    A step that is skipped leaves all but the step as it was, as a guard does.
    """
    return followed(json.dumps(options), skipped)


@functools.cache
def followed(options, skipped):
    defaults = dict(rule=dict(name="gradient_descent"), schedule=CONSTANT)
    tx, _ = optim.make(num_steps=NUM_STEPS, **(defaults | json.loads(options)))
    ok = ~np.isin(np.arange(NUM_STEPS), skipped)

    @jax.jit
    def run(start, goal, curve, noise):
        def step(carry, now):
            params, state = carry
            number, noise, ok = now
            grads = gradient(jnp, params, goal, curve, noise)
            updates, new = tx.update(grads, state, params, step=number)
            landed = optax.apply_updates(params, updates)
            params, state = walk.either(ok, (landed, new), (params, state))
            return (params, state), (params, optim.eval_params(state, params))

        first = start, optim.eval_params(tx.init(start), start)
        steps = jnp.arange(NUM_STEPS), noise, jnp.asarray(ok)
        later = jax.lax.scan(step, (start, tx.init(start)), steps)[1]
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    return jax.device_get(run(*problem()))
