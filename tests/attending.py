"""Masks drawn at random, and attention under them by its definition, in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from models.attend.mask import Mask
from models.packing import places

B, L, H, K = 2, 21, 4, 8


def segments(rng, length):
    """Texts side by side, among them short ones, with padding before and after."""
    row = np.repeat(np.arange(1, 7), rng.integers(1, length // 2, 6))
    row = np.concatenate([np.zeros(rng.integers(3), int), row])[:length]
    row[length - rng.integers(4) :] = 0
    return np.pad(row, (0, length - len(row)))


def make_mask(rng, rule, *, lengths=(L, L), prefix=False):
    """Of one text, or of two where the lengths differ."""
    segment_BL = np.stack([segments(rng, lengths[0]) for _ in range(B)])
    memory_BM = segment_BL
    if lengths[0] != lengths[1]:
        memory_BM = np.stack([segments(rng, lengths[1]) for _ in range(B)])
    prefix_BM = jnp.asarray(rng.random((B, lengths[1])) < 0.3) if prefix else None
    segment_BL, memory_BM = jnp.asarray(segment_BL), jnp.asarray(memory_BM)
    return Mask(
        segment_BL, places(segment_BL), memory_BM, places(memory_BM), prefix_BM, rule
    )


def arrays(rng, *, groups=H, lengths=(L, L), width=K):
    """Queries, keys, values, and what the gradient is taken along."""
    query, along = rng.normal(size=(2, B, lengths[0], H, width))
    key, value = rng.normal(size=(2, B, lengths[1], groups, width))
    return tuple(x.astype(np.float32) for x in (query, key, value, along))


def may_look(mask, b, i, j):
    """The definition, for one pair: what the docstrings of `Rule` and `Mask` say."""
    rule, segment = mask.rule, int(mask.segment_BL[b, i])
    if segment == 0 or segment != int(mask.memory_segment_BM[b, j]):
        return False
    query, key = int(mask.place_BL[b, i]), int(mask.memory_place_BM[b, j])
    near = not rule.window or abs(query - key) < rule.window
    near &= not rule.block or query // rule.block == key // rule.block
    near |= query < rule.num_global or key < rule.num_global
    in_prefix = mask.prefix_BM is not None and bool(mask.prefix_BM[b, j])
    return near and (not rule.causal or key <= query or in_prefix)


def pairs(mask):
    """`may_look` of all."""
    mask = jax.tree.map(np.asarray, mask)
    shape = (*mask.segment_BL.shape, mask.memory_segment_BM.shape[1])
    seen = [may_look(mask, *index) for index in np.ndindex(shape)]
    return np.reshape(seen, shape)


def reference(query, key, value, along, visible_BLM, bias, softcap, drop_BHLM):
    """Result and gradients in float64, by the formulas, all scores in memory."""
    query, key, value, along = (
        x.astype(np.float64) for x in (query, key, value, along)
    )
    repeats = query.shape[2] // key.shape[2]
    key_BMHK, value_BMHK = (x.repeat(repeats, axis=2) for x in (key, value))
    score = np.einsum("BLHK,BMHK->BHLM", query, key_BMHK)
    turned = np.tanh(score / softcap) if softcap else 0 * score
    score = softcap * turned if softcap else score
    if bias is not None:
        L, M = score.shape[2:]
        score = score + np.float64(bias.at(jnp.arange(L), jnp.arange(M)))
    weight = np.exp(score) * visible_BLM[:, None]
    total = weight.sum(-1, keepdims=True)
    weight = weight / np.where(total > 0, total, 1)
    out = np.einsum("BHLM,BMHK->BLHK", weight * drop_BHLM, value_BMHK)
    of_value = np.einsum("BHLM,BLHK->BMHK", weight * drop_BHLM, along)
    of_weight = np.einsum("BLHK,BMHK->BHLM", along, value_BMHK) * drop_BHLM
    of_biased = weight * (of_weight - (weight * of_weight).sum(-1, keepdims=True))
    of_score = of_biased * (1 - turned**2)
    of_query = np.einsum("BHLM,BMHK->BLHK", of_score, key_BMHK)
    of_key = np.einsum("BHLM,BLHK->BMHK", of_score, query)
    of_key, of_value = (
        x.reshape(*key.shape[:3], repeats, -1).sum(3) for x in (of_key, of_value)
    )
    return out, (of_query, of_key, of_value), of_biased.sum(0)
