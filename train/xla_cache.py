"""Where compiled programs are kept from run to run."""

import jax

from data import cache


def use_compilation_cache() -> None:
    """Compiled programs are kept from run to run, unless the user says where or not.

    In `xla/` of the cache folder (`STEEPEST_CACHE`); `JAX_COMPILATION_CACHE_DIR` and
    `JAX_ENABLE_COMPILATION_CACHE` work as ever.
    """
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.root() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
