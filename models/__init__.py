"""Models. A new one is a file here and a line in MODELS."""

from core.registry import Entry, Note
from models import decoder, encoder, encoder_decoder
from models.settings import AMOUNT, COUNT, RANGES

DROPOUT = "tests/test_dropout.py"
DROPPED = "tests/test_regularizers.py"
MASKS = "models/dropout.py"

# What is a technique of its own, for the catalogue; of every model.
WORDS = {
    "dropout": Note(
        DROPOUT, MASKS, source="Srivastava et al. 2014, https://jmlr.org/papers/v15"
    ),
    "attention_dropout": Note(
        "tests/test_model_program.py",
        MASKS,
        source="Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
    ),
    "mlp_dropout": Note(
        "tests/test_program.py",
        MASKS,
        source="Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
    ),
    "word_dropout": Note(
        DROPPED, MASKS, source="Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287"
    ),
    "drop_connect": Note(
        DROPPED,
        MASKS,
        source="Wan et al. 2013, https://proceedings.mlr.press/v28/wan13.html",
    ),
    "layer_drop": Note(
        DROPPED,
        "models/drop_layers.py",
        source="Fan et al. 2020, https://arxiv.org/abs/1909.11556; branch: Huang et "
        "al. 2016, https://arxiv.org/abs/1603.09382",
    ),
}

MODELS = {
    "encoder_decoder": Entry(
        encoder_decoder.EncoderDecoder,
        "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        RANGES | {"num_encoder_layers": COUNT, "num_decoder_layers": COUNT},
        encoder_decoder.check,
        words=WORDS,
    ),
    "decoder": Entry(
        decoder.Decoder,
        "Radford et al. 2019, Language models are unsupervised multitask learners",
        RANGES | {"num_layers": COUNT},
        decoder.check,
        words=WORDS,
    ),
    "encoder": Entry(
        encoder.Encoder,
        "Devlin et al. 2018, https://arxiv.org/abs/1810.04805",
        RANGES | {"num_layers": COUNT, "num_types": AMOUNT},
        encoder.check,
        words=WORDS,
    ),
}
