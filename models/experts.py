"""A mixture of experts: each token goes to the few MLPs that its router prefers.

Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538; the load-balance loss:
Fedus et al. 2021, https://arxiv.org/abs/2101.03961, equations 4 to 6, here over the k
choices of each token; weights of the k as in Mixtral, Jiang et al. 2024,
https://arxiv.org/abs/2401.04088, section 2.1: the softmax over the chosen alone.

Tokens are sorted by expert within their row, so rows stay on their device. In training
an expert takes `capacity` times its even share of a row's tokens, first come first
served, and what is over passes by; otherwise none is turned away.

Letters beyond STYLE.md's: `A` assignments of a row, k for each token; `C` room of an
expert.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from models.dropout import Dropout
from models.kernel import kernel
from models.mlp import GATED, activate
from models.settings import Settings
from models.start import Start


class Experts(nn.Module):
    """E MLPs and the router between them. Sows `balance` under `losses`."""

    settings: Settings
    start: Start = Start()

    @nn.compact
    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        real_BL: Bool[Array, "B L"],
        *,
        train: bool,
    ) -> Float[Array, "B L D"]:
        """`real_BL` is False on padding, which goes nowhere."""
        s = self.settings
        E, k = s.num_experts, s.experts_per_token
        router_DE = kernel(self, "router", (s.width, E))
        score_BLE = jnp.einsum("BLD,DE->BLE", x_BLD.astype(jnp.float32), router_DE)
        top_BLk, expert_BLk = jax.lax.top_k(score_BLE, k)
        share_BLk = jax.nn.softmax(top_BLk) * real_BL[..., None]
        self.sow("losses", "balance", balance(score_BLE, expert_BLk, real_BL))

        L = x_BLD.shape[1]
        C = min(L, math.ceil(s.capacity * L * k / E)) if train else L
        slot_BLk = slots(expert_BLk, real_BL, E, C)
        y_BCD = self._work(_dispatch(x_BLD, slot_BLk, E * C), train)
        empty_B1D = jnp.zeros_like(y_BCD[:, :1])
        y_BCD = jnp.concatenate([y_BCD, empty_B1D], axis=1)  # of those turned away
        y_BLkD = jax.vmap(lambda y_CD, slot_Lk: y_CD[slot_Lk])(y_BCD, slot_BLk)
        return jnp.einsum("BLkD,BLk->BLD", y_BLkD, share_BLk.astype(x_BLD.dtype))

    def _work(self, x_BCD, train):
        """Every expert on its own part of the slots."""
        s, dtype = self.settings, x_BCD.dtype
        E, D, F = s.num_experts, s.width, s.mlp_width
        drop_connect = Dropout(s.drop_connect, s.generator, name="drop_connect")
        x_BECD = x_BCD.reshape(len(x_BCD), E, -1, D)

        def project(name):
            w_EDF = kernel(self, name, (E, D, F), stacked=1, gain=self.start.inner)
            w_EDF = drop_connect(w_EDF, train=train)
            return jnp.einsum("BECD,EDF->BECF", x_BECD, w_EDF.astype(dtype))

        y_BECF = project("in")
        if s.activation in GATED:
            y_BECF *= activate(s.activation, project("gate"))
        else:
            y_BECF = activate(s.activation, y_BECF)
        y_BECF = Dropout(s.mlp_dropout, s.generator)(y_BECF, train=train)
        out_EFD = kernel(self, "out", (E, F, D), stacked=1, gain=self.start.out)
        out_EFD = drop_connect(out_EFD, train=train)
        y_BECD = jnp.einsum("BECF,EFD->BECD", y_BECF, out_EFD.astype(dtype))
        return y_BECD.reshape(x_BCD.shape)


def slots(
    expert_BLk: Int[Array, "B L k"], real_BL: Bool[Array, "B L"], E: int, C: int
) -> Int[Array, "B L k"]:
    """Where each token waits for its expert e: e C + its number there; E C if turned
    away.

    >>> slots(jnp.array([[[0], [1], [0], [0]]]), jnp.ones((1, 4), bool), 2, 2).ravel()
    Array([0, 2, 1, 4], dtype=int32)
    """

    def of_row(expert_Lk, real_L):
        k = expert_Lk.shape[1]
        expert_A = jnp.where(real_L[:, None], expert_Lk, E).reshape(-1)
        order_A = jnp.argsort(expert_A, stable=True)
        sorted_A = expert_A[order_A]
        first_E = jnp.searchsorted(sorted_A, jnp.arange(E))
        number_A = jnp.arange(len(sorted_A)) - first_E[jnp.minimum(sorted_A, E - 1)]
        fits_A = (number_A < C) & (sorted_A < E)
        slot_A = jnp.where(fits_A, sorted_A * C + number_A, E * C)
        return jnp.zeros_like(slot_A).at[order_A].set(slot_A).reshape(-1, k)

    return jax.vmap(of_row)(expert_BLk, real_BL)


def _dispatch(x_BLD, slot_BLk, num_slots):
    """Every token's features in its slots; zeros in the slots that are left."""

    def of_row(x_LD, slot_Lk):
        token_S = jnp.full(num_slots + 1, len(x_LD))
        token_L1 = jnp.arange(len(x_LD))[:, None]
        token_S = token_S.at[slot_Lk].set(jnp.broadcast_to(token_L1, slot_Lk.shape))
        return x_LD.at[token_S[:-1]].get(mode="fill", fill_value=0)

    return jax.vmap(of_row)(x_BLD, slot_BLk)


def balance(
    score_BLE: Float[Array, "B L E"],
    expert_BLk: Int[Array, "B L k"],
    real_BL: Bool[Array, "B L"],
) -> Float[Array, ""]:
    """E sum_e f_e P_e: f_e the share of assignments, P_e the mean probability.

    1 where both are even. Gradients come through P alone.
    """
    E = score_BLE.shape[-1]
    num_real = jnp.maximum(real_BL.sum(), 1)
    hits_BLE = (expert_BLk[..., None] == jnp.arange(E)[None, None, None]).any(
        2
    ) & real_BL[..., None]
    f_E = hits_BLE.sum((0, 1)) / (num_real * expert_BLk.shape[-1])
    p_BLE = jax.nn.softmax(score_BLE) * real_BL[..., None]
    return E * (f_E * p_BLE.sum((0, 1)) / num_real).sum()
