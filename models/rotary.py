"""Rotary positions: pairs of features are turned by angles that grow with the place.

Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, section 3.2.2; pairs are
feature i and i + K/2, as in Llama. For contexts longer than those trained on:
`linear`: Chen et al. 2023, https://arxiv.org/abs/2306.15595; `ntk`: the base raised so
that the slowest turn is `factor` times slower (bloc97 2023; Peng et al. 2023,
https://arxiv.org/abs/2309.00071, section 3.1); `llama3`: Grattafiori et al. 2024,
https://arxiv.org/abs/2407.21783, section 3.4, by wavelength.

Letter beyond STYLE.md's: `J` pairs of a head, K / 2.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.once import once
from models.settings import Settings

SLOW, FAST = 1.0, 4.0  # turns in `rotary_length`, below and above which llama3 decides


class Rotation(NamedTuple):
    """The turns of every token, for all layers."""

    cos_BLJ: Float[Array, "B L J"]
    sin_BLJ: Float[Array, "B L J"]

    def __call__(self, x_BLHK: Float[Array, "B L H K"]) -> Float[Array, "B L H K"]:
        """Turned, in float32, and given back in its own dtype."""
        cos, sin = self.cos_BLJ[:, :, None], self.sin_BLJ[:, :, None]
        one, other = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
        turned = [one * cos - other * sin, other * cos + one * sin]
        return jnp.concatenate(turned, axis=-1).astype(x_BLHK.dtype)


def rotation(settings: Settings, place_BL: Int[Array, "B L"]) -> Rotation:
    """Of tokens at these places."""
    return _turns(place_BL, frequencies(settings))


@once
def _turns(place_BL, turn_J):
    angle_BLJ = place_BL[..., None] * turn_J[None, None]
    return Rotation(jnp.cos(angle_BLJ), jnp.sin(angle_BLJ))


def frequencies(settings: Settings) -> Float[Array, "J"]:
    """The angle of each pair at place 1, in radians."""
    K, factor = settings.K, settings.rotary_factor
    base = settings.rotary_base
    if settings.rotary_scaling == "ntk":
        base = base * factor ** (K / max(K - 2, 1))
    turn_J = 1.0 / base ** (jnp.arange(0, K, 2) / K)
    if settings.rotary_scaling == "linear":
        return turn_J / factor
    if settings.rotary_scaling == "llama3":
        turns_J = settings.rotary_length * turn_J / (2 * math.pi)
        kept_J = jnp.clip((turns_J - SLOW) / (FAST - SLOW), 0, 1)
        return turn_J * (kept_J + (1 - kept_J) / factor)
    return turn_J
