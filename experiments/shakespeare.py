"""Shakespeare by the character: the smallest language model worth training.

    python launch.py train --config=experiments/shakespeare.py \
        --workdir=runs/shakespeare --config.data.folder=DIR
    python launch.py evaluate --workdir=runs/shakespeare
    python launch.py predict --workdir=runs/shakespeare --text="ROMEO:"

DIR holds tinyshakespeare.txt, plain or as .gz: `data/tinyshakespeare/input.txt` of
github.com/karpathy/char-rnn, 1.1 MB of 65 characters.

Question: what does a pre-norm Transformer of this size learn of a text in the seconds
that 400 steps take? It is small enough to be trained hundreds of times, and so is the
ground on which ways of training are compared.
Cost: some ten seconds of two cores, and as many for compiling.
Result: 2.069 nats a character on validation, 3.015 bits a byte on the test split
(docs/results/shakespeare.md).
"""

from ml_collections import ConfigDict

from experiments import options


def get_config(text: str = "") -> ConfigDict:
    """Options: `tiny`."""
    option = options.parse(text, tiny=False)

    c = ConfigDict()
    c.seed = 0
    c.num_steps = 400
    c.batch_size = 8  # rows of `packing.length` characters
    c.pieces = 1
    c.log_every = 50

    c.data = dict(name="text", folder="shakespeare", train="tinyshakespeare.txt")
    c.data.update(validation_share=0.05, test_share=0.05)
    c.tokenizer = dict(kind="char", vocab=260)  # at most; so `kind=byte` fits, too
    c.packing = dict(name="stream", length=48)

    c.task = dict(name="language", smoothing=0.0)
    c.model = dict(name="decoder", width=48, num_layers=4, num_heads=2, dropout=0.0)
    c.model.update(norm="pre", activation="gelu", position="rotary", unroll=4)
    c.model.mlp_width = 4 * c.model.get_ref("width")
    # A text that is sampled may be longer than a row: it is read as rows were.
    c.model.window = c.packing.get_ref("length")

    c.optim = dict(clip_norm=1.0, decay=0.1)
    c.optim.rule = dict(name="adam", b1=0.9, b2=0.95, eps=1e-8)
    c.optim.schedule = dict(name="wsd", peak=1e-2, warmup_steps=20, decay_steps=80)

    c.checkpoint = dict(every_steps=200)
    c.evaluate = dict(every_steps=100)
    c.decode = dict(name="sample", temperature=0.8, max_tokens=256)

    if option["tiny"]:
        c.num_steps, c.log_every = 20, 5
        c.packing.length = 16
        c.model.update(width=16, num_layers=1, unroll=1)
        c.optim.schedule.update(warmup_steps=2, decay_steps=5)
        c.checkpoint.every_steps = c.evaluate.every_steps = 10
    return c
