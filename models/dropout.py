"""Dropout whose mask is a hash of a counter: cheap, and the same on any mesh.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html; the
mixing constants are those of MurmurHash3's finalizer (Appleby, public domain).

It differs from `flax.linen.Dropout`: the rate may be traced, and the mask of element i
is a hash of (key, i), where Threefry spends some twenty rounds. The key is the usual
one, folded from seed, step, layer and module, so masks are independent of each other.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from core.numbers import off
from core.types import Number

Generator = Literal["hash", "threefry"]
BITS = 24  # of a hash are compared: an int32 holds every threshold up to 2**24


class Drop(NamedTuple):
    """Dropout of an array of which an implementation may hold one part at a time."""

    seed_2: UInt32[Array, "2"]
    keep: Float[Array, ""]

    def __call__(self, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        """Of the whole array."""
        return _drop(x, self.seed_2, self.keep)

    def of_part(
        self, x: Float[Array, "*axes"], strides: tuple[int, ...], first: Int[Array, ""]
    ) -> Float[Array, "*axes"]:
        """Of a part, the first of whose elements is number `first` of the whole.

        Along an axis of the part numbers grow by that axis's stride in the whole.
        """
        bits = _hash(self.seed_2, x.shape, strides, first.astype(jnp.uint32))
        return jnp.where(_kept(bits, self.keep), x * (1 / self.keep).astype(x.dtype), 0)


class Dropout(nn.Module):
    """Sets a share `rate` of the elements to 0 and divides the others by 1 - rate."""

    rate: Number
    generator: Generator = "hash"

    def __call__(
        self, x: Float[Array, "*axes"], *, train: bool
    ) -> Float[Array, "*axes"]:
        if not train or off(self.rate, 0.0):
            return x
        if self.generator == "threefry":
            keep = jnp.float32(1) - self.rate
            kept = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
            return jnp.where(kept, x * (1 / keep).astype(x.dtype), 0)
        return _drop(x, *self._seed_and_keep())

    def relu(self, x: Float[Array, "*axes"], *, train: bool) -> Float[Array, "*axes"]:
        """Dropout of relu(x): what is not 0 in it tells the backward pass all."""
        if not train or off(self.rate, 0.0) or self.generator == "threefry":
            return self(nn.relu(x), train=train)
        return _drop_relu(x, *self._seed_and_keep())

    def of_slices(
        self, x: Float[Array, "*axes"], num_axes: int, *, train: bool
    ) -> Float[Array, "*axes"]:
        """Of whole slices: what lies at one place of the first axes shares its fate."""
        if not train or off(self.rate, 0.0):
            return x
        scale = self(jnp.ones(x.shape[:num_axes], x.dtype), train=True)
        return x * jnp.expand_dims(scale, tuple(range(num_axes, x.ndim)))

    def of_parts(self, *, train: bool) -> Drop | None:
        """The same for an array that is never whole; None where it does nothing."""
        if not train or off(self.rate, 0.0):
            return None
        return Drop(*self._seed_and_keep())

    def _seed_and_keep(self):
        seed_2 = jax.random.key_data(self.make_rng("dropout"))[-2:].astype(jnp.uint32)
        return seed_2, jnp.float32(1) - self.rate


def mask(
    key: PRNGKeyArray, keep: Number, shape: tuple[int, ...]
) -> Bool[Array, "*shape"]:
    """True with probability `keep`; element i is a pure function of (key, i)."""
    return _mask(jax.random.key_data(key)[-2:].astype(jnp.uint32), keep, shape)


def _mask(
    seed_2: UInt32[Array, "2"], keep: Number, shape: tuple[int, ...]
) -> Bool[Array, "*shape"]:
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return _kept(_hash(seed_2, shape, strides, jnp.uint32(0)), keep)


def _kept(bits: UInt32[Array, "*shape"], keep: Number) -> Bool[Array, "*shape"]:
    threshold = jnp.round(keep * 2**BITS).astype(jnp.int32)
    return (bits >> (32 - BITS)).astype(jnp.int32) < threshold


def _hash(
    seed_2: UInt32[Array, "2"],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: UInt32[Array, ""],
) -> UInt32[Array, "*shape"]:
    """32 mixed bits an element of its number; the second word goes in half way.

    (If both words were only added to the counter, two keys would give shifted or
    permuted copies of one mask. Both are mixed first, for a flip of the highest bit of
    the second alone would go through the last multiplications almost unmixed.)
    """
    first, second = _mixed(seed_2[0]), _mixed(seed_2[1])
    index = sum(
        jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        for axis, stride in enumerate(strides)
    )
    bits = (index + offset) * jnp.uint32(0x9E3779B9) + first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = ((bits ^ (bits >> 13)) ^ second) * jnp.uint32(0xC2B2AE35)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return bits ^ (bits >> 16)


def _mixed(word: UInt32[Array, ""]) -> UInt32[Array, ""]:
    """MurmurHash3's finalizer: flipping one bit flips each half of the time."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def _dropped(x, seed_2, keep):
    """What the rules of derivatives call, so that they have a derivative too."""
    kept = _mask(seed_2, keep, x.shape)
    return jnp.where(kept, x * (1 / keep).astype(x.dtype), 0)


@jax.custom_vjp
def _drop(x, seed_2, keep):
    """The backward pass hashes again: cheaper than to keep a mask in memory."""
    return _dropped(x, seed_2, keep)


def _drop_forward(x, seed_2, keep):
    return _dropped(x, seed_2, keep), (seed_2, keep)


def _drop_backward(residuals, gradient):
    seed_2, keep = residuals
    return _dropped(gradient, seed_2, keep), None, jnp.zeros_like(keep)


_drop.defvjp(_drop_forward, _drop_backward)


@jax.custom_vjp
def _drop_relu(x, seed_2, keep):
    return _dropped(nn.relu(x), seed_2, keep)


def _drop_relu_forward(x, seed_2, keep):
    y = _dropped(nn.relu(x), seed_2, keep)
    return y, (y, keep)


def _drop_relu_backward(residuals, gradient):
    y, keep = residuals
    gradient *= (1 / keep).astype(gradient.dtype)
    return jnp.where(y > 0, gradient, 0), None, jnp.zeros_like(keep)


_drop_relu.defvjp(_drop_relu_forward, _drop_relu_backward)
