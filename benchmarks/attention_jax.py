"""Causal attention of this repository or of `flax.linen`, as a contestant.

Forward and backward: the gradients of queries, keys and values.
"""

import importlib.metadata
from typing import Any

import attention_problem as problem
import jax
import jax.numpy as jnp
import turns
from flax import linen as nn
from problem import GEMM_SIZE

from models.attend import attend
from models.attend.mask import Mask, Rule
from train.provenance import provenance

LIBRARIES = ("jax", "jaxlib", "flax")


class Attention:
    """Full rows. `implementation` is a word of ours, or `flax`."""

    def __init__(self, *, length: int, implementation: str):
        self._given = [jnp.asarray(x) for x in problem.arrays(length)]
        segment_BL = jnp.ones((problem.LENGTHS[length], length), jnp.int32)
        place_BL = jnp.broadcast_to(jnp.arange(length), segment_BL.shape)
        self._mask = Mask(segment_BL, place_BL, segment_BL, place_BL)
        self._mask = self._mask._replace(rule=Rule(causal=True))

        def ours(*given, mask):
            return attend(*given, mask, implementation=implementation)

        def theirs(query_BLHK, key_BMGK, value_BMGK, mask):
            query_BLHK *= problem.HEAD_WIDTH**0.5  # it scales them itself
            visible_B1LM = nn.make_causal_mask(mask.segment_BL, dtype=bool)
            return nn.dot_product_attention(
                query_BLHK, key_BMGK, value_BMGK, mask=visible_B1LM
            )

        function = theirs if implementation == "flax" else ours

        def energy(query_BLHK, key_BMGK, value_BMGK, along_BLHK, mask):
            out_BLHK = function(query_BLHK, key_BMGK, value_BMGK, mask=mask)
            return (out_BLHK * along_BLHK).sum()

        self._step = jax.jit(jax.value_and_grad(energy, argnums=(0, 1, 2)))
        square = jax.random.normal(jax.random.key(0), (GEMM_SIZE, GEMM_SIZE))
        self._square, self._product = square, jax.jit(jnp.matmul)

    def step(self) -> Any:
        return self._step(*self._given, self._mask)

    def wait(self, loss: Any) -> float:
        return float(jax.block_until_ready(loss)[0])

    def multiply(self) -> None:
        self._product(self._square, self._square).block_until_ready()

    def facts(self) -> dict[str, Any]:
        known = provenance([])
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        kept = {name: known[name] for name in ("commit", "dirty", "cores")}
        return kept | {"versions": versions}


if __name__ == "__main__":
    turns.serve(Attention)
