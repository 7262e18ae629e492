"""A small language model, packed rows of texts, and its scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from models.decoder import Decoder
from tasks.language import Language

KEY = jax.random.key(0)
V = 7
SIZES = dict(width=8, num_heads=2, mlp_width=12)
TEXTS = [[4, 5, 6, 1, 2], [6, 3, 1]]
ALL_ON = dict(
    smoothing=0.1, z_loss=0.1, confidence_penalty=0.3, focal=0.5, poly=-0.7, r_drop=5.0
)


def rows(*texts_of_rows):
    """A batch of rows of 10 places, each of some texts."""
    read_BL, next_BL, segment_BL = np.zeros((3, len(texts_of_rows), 10), np.int32)
    for row, texts in enumerate(texts_of_rows):
        place = 0
        for segment, text in enumerate(texts, 1):
            stretch = slice(place, place + len(text) - 1)
            read_BL[row, stretch], next_BL[row, stretch] = text[:-1], text[1:]
            segment_BL[row, stretch] = segment
            place += len(text) - 1
    batch = dict(input_BL=read_BL, target_BL=next_BL, segment_BL=segment_BL)
    return jax.tree.map(jnp.asarray, batch)


def language(num_layers=1, *, model=(), **words):
    return Language(
        Decoder(vocab=V, num_layers=num_layers, **SIZES, **dict(model)), **words
    )


@functools.cache
def _scored(task, train):
    return jax.jit(functools.partial(task.score, train=train))


def score(task, params, batch, key=KEY, *, train=True):
    return _scored(task, train)(params, batch, key)


@functools.cache
def large():
    """Parameters of `language(2)`, larger than at the start."""
    fresh = jax.jit(language(2).init)(KEY)
    return jax.tree.map(lambda leaf: 1.5 * leaf, fresh)
