"""The smallest task whose steps are worth measuring."""

import dataclasses

import jax
import jax.numpy as jnp

from core.mean import Mean


@dataclasses.dataclass(frozen=True)
class Net:
    """Two layers, and an objective with a key, over rows that do not weigh the same."""

    def init(self, key):
        one, other = jax.random.split(key)
        shapes = {"in": jax.random.normal(one, (4, 5))}
        return {"mlp": shapes | {"out": jax.random.normal(other, (5,))}}

    def score(self, params, batch, key, *, train):
        assert train
        mlp = params["mlp"]
        error_B = jnp.tanh(batch["x_BD"] @ mlp["in"]) @ mlp["out"] - 1.0
        noise = jax.random.normal(key, error_B.shape)
        return {"objective": Mean.of((1 + noise) * error_B**2, batch["weight_B"])}


def rows(seed=0):
    """A batch of it."""
    x_BD = jax.random.normal(jax.random.key(seed), (6, 4))
    return dict(x_BD=x_BD, weight_B=jnp.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0]))
