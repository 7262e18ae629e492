"""Feature maps: a weight of attention as a product of the query's and the key's.

Source: `Elu`: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, section 3.2;
`RandomFeatures`: Choromanski et al. 2020 (Performer), https://arxiv.org/abs/2009.14794,
lemma 1 (positive features) and section 2.4 (orthogonal ones). It departs from the first
in that queries come scaled, and from the second in that the features are those of one
draw for good, and nothing is added to them to keep them from 0: they are kept with a
logarithm, so that they need it not.

Letter beyond STYLE.md's: `Z` features.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Found(NamedTuple):
    """Features as `feature * exp(log)`, of which the greatest is about 1."""

    feature: Float[Array, "*axes Z"]
    log: Float[Array, "*axes"]


class Elu(NamedTuple):
    """elu(x) + 1, as many features as a head is wide."""

    def of_query(self, x: Float[Array, "*axes K"]) -> Found:
        """The same for queries and keys."""
        feature = jax.nn.elu(x.astype(jnp.float32)) + 1
        return Found(feature, jnp.zeros(x.shape[:-1], jnp.float32))

    def of_key(self, x: Float[Array, "*axes K"]) -> Found:
        """The same for queries and keys."""
        return self.of_query(x)


class RandomFeatures(NamedTuple):
    """exp(w . x - x . x / 2) for random w: on average their product is exp(q . k).

    The scale that is in the queries is shared out among both, which leaves the product
    as it is and makes its error the least.
    """

    place_ZK: Float[np.ndarray, "Z K"]

    def of_query(self, x: Float[Array, "*axes K"]) -> Found:
        """Of queries that come scaled by 1 / sqrt(K)."""
        return self._of(x.astype(jnp.float32) * x.shape[-1] ** 0.25)

    def of_key(self, x: Float[Array, "*axes K"]) -> Found:
        """Of keys."""
        return self._of(x.astype(jnp.float32) * x.shape[-1] ** -0.25)

    def _of(self, x) -> Found:
        logs = x @ self.place_ZK.T - (x * x).sum(-1, keepdims=True) / 2
        logs -= math.log(len(self.place_ZK)) / 2
        top = jax.lax.stop_gradient(logs.max(-1, keepdims=True))
        return Found(jnp.exp(logs - top), top[..., 0])


# A pair of maps of which phi(q) . phi(k), in float32, weighs key k for query q.
Features = Elu | RandomFeatures


def random_features(
    num_features: int, head_width: int, seed: int = 0
) -> RandomFeatures:
    """`head_width` at a time are at right angles; each is as long as a Gaussian's.

    >>> w_ZK = random_features(4, 2).place_ZK
    >>> w_ZK.shape, bool(abs(w_ZK[0] @ w_ZK[1]) < 1e-6)
    ((4, 2), True)
    """
    rng = np.random.default_rng(seed)
    count = -(-num_features // head_width)
    turns = [_turn(rng, head_width) for _ in range(count)]
    place_ZK = np.concatenate(turns)[:num_features]
    lengths = np.linalg.norm(rng.normal(size=(num_features, head_width)), axis=1)
    return RandomFeatures((place_ZK * lengths[:, None]).astype(np.float32))


def _turn(rng: np.random.Generator, size: int) -> np.ndarray:
    """A rotation or reflection, all being as likely.

    QR alone prefers some: the signs on the diagonal of R make it unique.
    """
    turn, upper = np.linalg.qr(rng.normal(size=(size, size)))
    return (turn * np.sign(np.diag(upper))).T


def scores(
    query_BGQK: Float[Array, "B G Q K"],
    key_BGMK: Float[Array, "B G M K"],
    features: Features,
) -> Float[Array, "B G Q M"]:
    """Logarithms of the weights: their softmax over what is visible is `linear`'s.

    For few queries, as in decoding from a cache of keys. `Q` are queries of a group.
    """
    query, key = features.of_query(query_BGQK), features.of_key(key_BGMK)
    query_BGQZ, key_BGMZ = query.feature, key.feature
    weight_BGQM = jnp.einsum("BGQZ,BGMZ->BGQM", query_BGQZ, key_BGMZ)
    return jnp.log(weight_BGQM) + key.log[:, :, None]
