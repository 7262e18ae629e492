"""Multi30k, English to German: image captions, the small translation benchmark.

    python launch.py train --config=experiments/multi30k.py --workdir=runs/multi30k \
        --config.data.folder=DIR

DIR holds {train,val,test_2016_flickr}.{en,de}, plain or as .gz: `data/task1/raw` of
github.com/multi30k/dataset (Elliott et al. 2016, https://arxiv.org/abs/1605.00459).

Question: how close does a text-only Transformer of this size, trained on two cores,
come to the 38 to 41 BLEU that are reported on test_2016_flickr? The sizes are those of
the `Transformer-Tiny` of Wu et al. 2021, https://arxiv.org/abs/2105.14462, section 4.
Result: 38.8 BLEU (lower-cased, beam 5; cased 38.4) after 24 epochs, seed 0, in 37
minutes of two busy cores: the lower end. docs/results/multi30k.md.
"""

from ml_collections import ConfigDict

from experiments import options


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`, `from_language=en`, `to_language=de` (or fr)."""
    option = options.parse(text, tiny=False, from_language="en", to_language="de")

    c = ConfigDict()
    c.seed = 0
    c.num_epochs = 24.0
    c.batch_size = 64  # packed rows
    c.pieces = 4
    c.log_every = 50

    c.data = dict(name="parallel", folder="multi30k")
    c.data.update(train="train", validation="val", test="test_2016_flickr")
    c.data.update(source=option["from_language"], target=option["to_language"])
    c.tokenizer = dict(kind="bpe", vocab=6_000)
    c.packing = dict(name="pairs", max_tokens=128)

    c.task = dict(name="translation", smoothing=0.1)
    c.model = dict(name="encoder_decoder", width=128, num_heads=4, dropout=0.2)
    c.model.mlp_dropout = 0.2
    c.model.num_encoder_layers = 4
    c.model.num_decoder_layers = 4
    c.model.unroll = 4
    c.model.mlp_width = 2 * c.model.get_ref("width")

    c.optim = dict(clip_norm=1.0, decay=0.0)
    c.optim.rule = dict(name="adam", b1=0.9, b2=0.98, eps=1e-9)
    c.optim.schedule = dict(name="cosine", peak=4e-3, warmup_steps=800)

    c.checkpoint = dict(every_steps=500, best="val_loss")
    c.evaluate = dict(every_steps=500)
    c.decode = dict(name="beam", beam=5, length_penalty=0.6)

    if option["tiny"]:
        c.num_epochs, c.num_steps = 0.0, 20
        c.batch_size, c.pieces, c.log_every = 8, 1, 5
        c.tokenizer.vocab = 1_000
        c.model.update(width=32, num_encoder_layers=1, num_decoder_layers=1)
        c.optim.schedule.warmup_steps = 5
        c.checkpoint.every_steps = c.evaluate.every_steps = 10
    return c
