"""What devices can do at most."""

import jax

# bfloat16 matrix products a second, dense, from the vendors' data sheets.
PEAK = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


def peak_flops(dtype: str) -> float | None:
    """Of all devices together, in operations a second; None where it is not known."""
    peak = PEAK.get(jax.devices()[0].device_kind) if dtype == "bfloat16" else None
    return None if peak is None else peak * jax.device_count()
