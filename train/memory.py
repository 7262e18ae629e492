"""How much a device can hold."""

import os

import jax


def free_bytes() -> int:
    """What one device has for a program; virtual ones share the host's memory."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats is not None and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    host = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return host // jax.local_device_count()
