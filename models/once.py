"""What several parts of a program read, made once and before them.

XLA on a CPU computes what is no matrix product again in every kernel that reads it, a
sine as well as a sum; `lax.optimization_barrier` is gone before it does. A call that is
not to be inlined stays.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float


def once(function: Callable) -> Callable:
    """The same function of arrays, whose results are made once; on other platforms
    XLA does as it likes.
    """
    jitted = jax.jit(function)

    def called(*args):
        with set_xla_metadata(inlineable="false"):
            return jitted(*args)

    def chosen(*args):
        return jax.lax.platform_dependent(*args, cpu=called, default=function)

    return chosen


@jax.custom_jvp
def settled(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """The same; its gradient is made once."""
    return x


@settled.defjvp
def _settled(primals, tangents):
    return primals[0], _same(tangents[0])


_same = once(lambda x: x)
