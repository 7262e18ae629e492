"""Looks at attention, against models in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from models import packing
from models.attend.mask import Mask, Rule
from models.attention import Attention
from models.decoder import Decoder
from models.encoder_decoder import EncoderDecoder
from models.settings import Settings
from tasks.language import Language
from tasks.translation import Translation

SIZES = dict(width=8, num_heads=2, mlp_width=12, position="none")


def normed(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attended(x, memory, p, see, looks):
    """The branch's output; its largest score and mean entropy go to `looks`."""
    q, k, v = (
        np.einsum("bld,dhk->bhlk", y, p[name])
        for y, name in ((x, "query"), (memory, "key"), (memory, "value"))
    )
    k, v = (np.repeat(y, q.shape[1] // y.shape[1], axis=1) for y in (k, v))
    score = np.einsum("bhlk,bhmk->bhlm", q, k) / np.sqrt(q.shape[-1])
    see = np.broadcast_to(see[:, None], score.shape)
    weight = np.where(see, np.exp(score), 0.0)
    weight /= np.maximum(weight.sum(-1, keepdims=True), 1e-30)
    entropy = -(weight * np.log(np.where(weight > 0, weight, 1.0))).sum(-1)
    looks.append((score[see].max(), entropy[see.any(-1)].mean()))
    return np.einsum("bhlm,bhmk,hkd->bld", weight, v, p["out"])


def stacked(x, params, see, memory=None, see_memory=None):
    """A stack of layers: what comes out, and the looks of each kind of attention."""
    own, cross = [], []
    for n in range(params["layers"]["mlp"]["in"].shape[0]):
        p = jax.tree.map(lambda leaf, n=n: np.float64(leaf[n]), params["layers"])
        y = normed(x, p["norm_attention"])
        x = x + attended(y, y, p["attention"], see, own)
        if memory is not None:
            y = normed(x, p["norm_cross"])
            x = x + attended(y, memory, p["cross_attention"], see_memory, cross)
        y = normed(x, p["norm_mlp"])
        x = x + np.maximum(y @ p["mlp"]["in"], 0) @ p["mlp"]["out"]
    return normed(x, params["norm"]), own, cross


def assert_looks(found, name, stack, looks):
    for n, (top, entropy) in enumerate(looks):
        values = (found[f"{name}_{x}/{stack}/{n}"].value for x in ("logit", "entropy"))
        np.testing.assert_allclose(list(values), [top, entropy], rtol=2e-5)


def segments():
    """Two texts in a row, padding, and a row that is full."""
    return jnp.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])


def tokens(seed):
    return jax.random.randint(jax.random.key(seed), (2, 6), 4, 11)


def large(task):
    """Parameters that make attention uneven."""
    params = jax.device_get(jax.jit(task.init)(jax.random.key(3)))
    return jax.tree.map(lambda w: np.float32(2.0) * w, params)


def seen(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return (one[:, :, None] == other[:, None]) & (one[:, :, None] > 0)


def test_looks_of_a_decoder_are_numpys_whatever_computes_its_attention():
    def task(**words):
        sizes = SIZES | dict(num_heads=4, num_groups=2, vocab=11, num_layers=2)
        return Language(Decoder(**sizes, **words))

    params, segment = large(task()), segments()
    batch = dict(input_BL=tokens(0), target_BL=tokens(1), segment_BL=segment)
    found = jax.jit(task().looks)(params, batch)
    see = seen(segment, segment) & np.tril(np.ones((6, 6), bool))[None]
    x = np.float64(params["embedding"]["embed"])[batch["input_BL"]] * np.sqrt(8)
    _, own, _ = stacked(x, params["decoder"], see)
    assert len(found) == 4
    assert_looks(found, "attention", "decoder", own)
    other = jax.jit(task(implementation="blockwise", remat="full", unroll=2).looks)
    for name, mean in other(params, batch).items():
        np.testing.assert_allclose(mean.value, found[name].value, rtol=2e-5)


def test_looks_of_an_encoder_decoder_are_numpys():
    sizes = dict(num_encoder_layers=1, num_decoder_layers=2, vocab=11)
    task = Translation(EncoderDecoder(**SIZES, **sizes))
    params, segment = large(task), segments()
    source_segment = segment[:, ::-1].at[0].set(jnp.array([1, 2, 2, 0, 0, 0]))
    batch = dict(
        source_BM=tokens(0),
        source_segment_BM=source_segment,
        target_BL=tokens(1),
        target_segment_BL=segment,
    )
    found = jax.jit(task.looks)(params, batch)
    embed = np.float64(params["embedding"]["embed"]) * np.sqrt(8)
    x = embed[batch["source_BM"]]
    see = seen(source_segment, source_segment)
    memory, own, _ = stacked(x, params["encoder"], see)
    assert_looks(found, "attention", "encoder", own)
    before = np.asarray(batch["target_BL"])[:, :-1]
    first = np.asarray(segment)[:, 1:] != np.asarray(segment)[:, :-1]
    read = np.pad(np.where(first, 3, before), ((0, 0), (1, 0)), constant_values=3)
    see = seen(segment, segment) & np.tril(np.ones((6, 6), bool))[None]
    memories = memory, seen(segment, source_segment)
    _, own, cross = stacked(embed[read], params["decoder"], see, *memories)
    assert_looks(found, "attention", "decoder", own)
    assert_looks(found, "cross_attention", "decoder", cross)
    assert len(found) == 2 * (1 + 2 + 2)


def test_looks_of_linear_attention_are_those_of_its_weights():
    settings = Settings(width=8, num_heads=2, mlp_width=1, attention="linear")
    model, segment = Attention(settings), segments()
    place = packing.places(segment)
    mask = Mask(segment, place, segment, place, rule=Rule(causal=True))
    x = jax.random.normal(jax.random.key(0), (2, 6, 8))

    @jax.jit
    def sown():
        params = model.init(jax.random.key(1), x, x, mask, train=False)
        assert set(params) == {"params"}  # nothing is sown into what is initialised
        kept = model.apply(params, x, x, mask, train=False, mutable=["looks"])
        return params["params"], kept[1]["looks"]["look"][0]

    params, found = jax.device_get(sown())
    q, k = (np.einsum("bld,dhk->bhlk", x, params[name]) for name in ("query", "key"))
    q, k = (np.where(y > 0, y + 1, np.exp(y)) for y in (q, k))
    weight = np.einsum("bhlk,bhmk->bhlm", q, k)
    see = seen(segment, segment) & np.tril(np.ones((6, 6), bool))[None]
    see = np.broadcast_to(see[:, None], weight.shape)
    np.testing.assert_allclose(found.top, np.log(weight[see].max()), rtol=1e-5)
    share = np.where(see, weight, 0)
    share /= np.maximum(share.sum(-1, keepdims=True), 1e-30)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum()
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)
    assert found.number == see.any(-1).sum() == 2 * 11
