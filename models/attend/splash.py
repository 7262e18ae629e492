"""Splash attention: the Pallas kernel of TPUs that skips what a mask leaves out.

Source: `jax.experimental.pallas.ops.tpu.splash_attention`. A rule's order and window
are known when it compiles; segments come beside the keys.
"""

import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as kernels
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from models.attend.mask import Mask, Rule

BLOCK = 512  # at most, of queries and of keys
ROWS = "data"  # the axis of the mesh that rows lie along


def attend(
    query_BLHK: Float[Array, "B L H K"],
    key_BMGK: Float[Array, "B M G K"],
    value_BMGK: Float[Array, "B M G K"],
    mask: Mask,
    *,
    interpret: bool = False,
) -> Float[Array, "B L H K"]:
    """As `models/attend/plain.py`, without bias, cap, dropout, prefix and blocks.

    Under a mesh (`jax.set_mesh`) each device takes its own rows: the compiler does not
    split a kernel. `interpret` runs it without a TPU, slowly.
    """
    _, L, H, _ = query_BLHK.shape
    kernel = kernels.make_splash_mha(
        _mask_of(mask.rule, H, L, key_BMGK.shape[1]),
        block_sizes=_sizes(L, key_BMGK.shape[1]),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def of_rows(query_BLHK, key_BMGK, value_BMGK, segment_BL, memory_segment_BM):
        query_BHLK = jnp.einsum("BLHK->BHLK", query_BLHK)
        key_BGMK = jnp.einsum("BMGK->BGMK", key_BMGK)
        value_BGMK = jnp.einsum("BMGK->BGMK", value_BMGK)
        segments = kernels.SegmentIds(segment_BL, memory_segment_BM)
        mixed_BHLK = jax.vmap(kernel)(query_BHLK, key_BGMK, value_BGMK, segments)
        return jnp.einsum("BHLK->BLHK", mixed_BHLK)

    if ROWS in jax.sharding.get_abstract_mesh().axis_names:
        spec = PartitionSpec(ROWS)
        of_rows = jax.shard_map(of_rows, in_specs=spec, out_specs=spec, check_vma=False)
    segments = mask.segment_BL, mask.memory_segment_BM
    mixed_BLHK = of_rows(query_BLHK, key_BMGK, value_BMGK, *segments)
    return jnp.where(mask.sees()[..., None, None], mixed_BLHK, 0)


def _mask_of(rule: Rule, H: int, L: int, M: int) -> kernels.MultiHeadMask:
    """The same for all heads."""
    if rule.window:
        back = rule.window - 1
        of_head = kernels.LocalMask((L, M), (back, 0 if rule.causal else back), 0)
    elif rule.causal:
        of_head = kernels.CausalMask((L, M))
    else:
        of_head = kernels.FullMask((L, M))
    return kernels.MultiHeadMask([of_head] * H)


def _sizes(L: int, M: int) -> kernels.BlockSizes:
    """The largest powers of two that divide the lengths, to `BLOCK`."""
    Q, C = math.gcd(L, BLOCK), math.gcd(M, BLOCK)
    return kernels.BlockSizes(
        block_q=Q,
        block_kv=C,
        block_kv_compute=C,
        block_q_dkv=Q,
        block_kv_dkv=C,
        block_kv_dkv_compute=C,
        block_q_dq=Q,
        block_kv_dq=C,
    )
