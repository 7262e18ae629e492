"""A decoder of `flax.linen`'s own parts, as a contestant: forward and backward.

As one writes it from the documentation: `MultiHeadDotProductAttention`, `Dense`,
`LayerNorm`, whole logits and optax's cross-entropy, all layers in one program.
"""

from typing import Any

import decoder_problem as problem
import jax
import jax.numpy as jnp
import numpy as np
import optax
import turns
from flax import linen as nn
from problem import GEMM_SIZE


class Decoder(nn.Module):
    """The sizes of the problem."""

    @nn.compact
    def __call__(self, token_BL):
        embed = nn.Embed(problem.VOCAB, problem.WIDTH)
        place = nn.Embed(token_BL.shape[1], problem.WIDTH)
        x = embed(token_BL) + place(jnp.arange(token_BL.shape[1]))
        mask = nn.make_causal_mask(token_BL)
        for _ in range(problem.NUM_LAYERS):
            attention = nn.MultiHeadDotProductAttention(problem.NUM_HEADS)
            x = x + attention(nn.LayerNorm()(x), mask=mask)
            y = nn.gelu(nn.Dense(problem.MLP_WIDTH)(nn.LayerNorm()(x)))
            x = x + nn.Dense(problem.WIDTH)(y)
        return embed.attend(nn.LayerNorm()(x))


class Flax:
    """Full rows, so causality is all there is to mask."""

    def __init__(self, *, length: int):
        model = Decoder()
        self._batches, self._num_steps = problem.batches(length), 0
        key = jax.random.key(0)
        self._params = jax.jit(model.init)(key, self._batches[0][0])

        def loss(params, input_BL, target_BL):
            logit_BLV = model.apply(params, input_BL)
            nats = optax.softmax_cross_entropy_with_integer_labels(logit_BLV, target_BL)
            return nats.mean()

        self._step = jax.jit(jax.value_and_grad(loss))
        square = jax.random.normal(key, (GEMM_SIZE, GEMM_SIZE))
        self._square, self._product = square, jax.jit(jnp.matmul)

    def step(self) -> Any:
        batch = self._batches[self._num_steps % problem.NUM_BATCHES]
        self._num_steps += 1
        return self._step(self._params, *(side.astype(np.int32) for side in batch))

    def wait(self, loss: Any) -> float:
        return float(jax.block_until_ready(loss)[0])

    def multiply(self) -> None:
        self._product(self._square, self._square).block_until_ready()

    def facts(self) -> dict[str, Any]:
        leaves = jax.tree.leaves(self._params)
        return {"parameters": sum(leaf.size for leaf in leaves)}


if __name__ == "__main__":
    turns.serve(Flax)
