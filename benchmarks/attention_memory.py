"""What compiled attention would need of a device's memory; nothing is run.

    python benchmarks/attention_memory.py cpu|tpu

prints a line of JSON for each program. `tpu` compiles ahead of time for one chip of a
v5e: it needs `pip install steepest[tpu]`, but no TPU.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from models.attend import attend
from models.attend.mask import Mask, Rule

LENGTHS = (1024, 2048, 4096, 8192, 16384)
NUM_HEADS, HEAD_WIDTH = 4, 64
TOPOLOGY = "v5e:2x2"
IMPLEMENTATIONS = {
    "cpu": ("plain", "blockwise"),
    "tpu": ("plain", "blockwise", "splash"),
}


def main(platform: str) -> None:
    """Compiles forward and backward of every implementation at every length."""
    sharding = None
    if platform == "tpu":
        device = topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices[0]
        sharding = jax.sharding.SingleDeviceSharding(device)
    for name in IMPLEMENTATIONS[platform]:
        for length in LENGTHS:
            facts = needed_bytes(name, length, platform, sharding)
            row = {"implementation": name, "length": length} | facts
            print(json.dumps(row | {"jax": jax.__version__}), flush=True)


def needed_bytes(
    name: str, length: int, platform: str, sharding: Any
) -> dict[str, int]:
    """Of one packed, causal row in bfloat16: temporary bytes, and the peak of all."""
    shape = (1, length, NUM_HEADS, HEAD_WIDTH)
    x_BLHK = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)
    token_BL = jax.ShapeDtypeStruct((1, length), jnp.int32, sharding=sharding)
    mask = Mask(token_BL, token_BL, token_BL, token_BL, rule=Rule(causal=True))

    def both(query_BLHK, key_BMGK, value_BMGK, grad_BLHK, mask):
        def forward(*given):
            return attend(*given, mask, implementation=name, platform=platform)

        out_BLHK, pull = jax.vjp(forward, query_BLHK, key_BMGK, value_BMGK)
        return out_BLHK, pull(grad_BLHK)

    lowered = jax.jit(both).lower(x_BLHK, x_BLHK, x_BLHK, x_BLHK, mask)
    found = lowered.compile().memory_analysis()
    return {
        "temporary": found.temp_size_in_bytes,
        "peak": found.peak_memory_in_bytes,
    }


if __name__ == "__main__":
    main(sys.argv[1])
