"""Tests are stricter than runs: no silent broadcast, four devices, quick compiles.

They see none of the user's caches, and nothing is fetched from a hub.
"""

import importlib.metadata
import os
import tempfile

# Before jax is imported, for it reads some of these then. What tests start as a process
# of their own inherits them, and so do the workers of pytest-xdist.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
CACHE = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="steepest-tests-")
    os.environ["STEEPEST_CACHE"] = CACHE.name

import jax  # noqa: E402 - see above
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_compilation_cache_dir", None)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)

# Two fifths of the time that tests take are those of 0.10's fusion emitters. Later ones
# know no such flag, and XLA ends on one that it does not know. It is for this process
# alone: what tests start compiles as users do.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    given = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{given or ''} --xla_cpu_use_fusion_emitters=false"
    jax.devices()  # reads the flags
    if given is None:
        del os.environ["XLA_FLAGS"]
    else:
        os.environ["XLA_FLAGS"] = given


# Scripts that make files of numbers, by packages that a test does not need.
collect_ignore_glob = ["golden/*"]

# The files that take longest, which a worker would otherwise begin when others end.
LONG = ("test_program.py", "test_kill.py", "test_run.py", "test_generate.py")


@pytest.fixture(scope="module")
def undrawn():
    """No run draws its curves, which takes a fifth of the time of a short one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.curves.draw", lambda folder: None)
        yield


def pytest_collection_modifyitems(items):
    """Puts the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_unconfigure():
    """Removes the caches that the tests filled."""
    if CACHE is not None:
        CACHE.cleanup()
