"""Localisation: dates, times, numbers, units and names from one locale to another.

    python launch.py train --config=experiments/localize.py --workdir=runs/localize
    python launch.py train --config=experiments/localize.py:tiny --workdir=runs/tiny

Question: does a small encoder-decoder learn the conventions of two locales exactly, in
minutes on two cores? The data are rendered from the CLDR tables: no download, an exact
reference, any pair of locales (`:from_locale=en,to_locale=ja`).
Result: exact match 1.0 on 1,000 held-out pairs after 1,200 steps, English to German.
docs/results/localize.md.
"""

from ml_collections import ConfigDict

from experiments import options


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`, `from_locale=en`, `to_locale=de`."""
    option = options.parse(text, tiny=False, from_locale="en", to_locale="de")

    c = ConfigDict()
    c.seed = 0
    c.num_steps = 1_200
    c.batch_size = 64  # packed rows
    c.pieces = 1
    c.log_every = 50

    c.data = dict(name="cldr", num_pairs=40_000)
    c.data.from_locale = option["from_locale"]
    c.data.to_locale = option["to_locale"]
    c.tokenizer = dict(kind="bpe", vocab=1_000, byte_fallback=False)
    c.packing = dict(name="pairs", max_tokens=128)

    c.task = dict(name="translation", smoothing=0.0)
    c.model = dict(name="encoder_decoder", width=128, num_heads=4, dropout=0.0)
    c.model.num_encoder_layers = 2
    c.model.num_decoder_layers = 2
    c.model.unroll = 2
    c.model.mlp_width = 4 * c.model.get_ref("width")  # follows width in a sweep

    c.optim = dict(clip_norm=1.0, decay=0.01)
    c.optim.rule = dict(name="adam", b1=0.9, b2=0.98, eps=1e-9)
    c.optim.schedule = dict(name="wsd", peak=3e-3, warmup_steps=100, decay_steps=400)

    c.checkpoint = dict(every_steps=300)
    c.evaluate = dict(every_steps=300)
    c.decode = dict(name="greedy")

    if option["tiny"]:
        c.num_steps, c.batch_size, c.log_every = 20, 8, 5
        c.data.num_pairs = 1_000
        c.tokenizer.vocab = 500
        c.model.update(width=32, num_encoder_layers=1, num_decoder_layers=1)
        c.optim.schedule.update(warmup_steps=2, decay_steps=5)
        c.checkpoint.every_steps = c.evaluate.every_steps = 10
    return c
