"""Models. A new one is a file here and a line in MODELS."""

from core.registry import Entry
from models import decoder, encoder, encoder_decoder
from models.settings import AMOUNT, COUNT, RANGES

MODELS = {
    "encoder_decoder": Entry(
        encoder_decoder.EncoderDecoder,
        "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        RANGES | {"num_encoder_layers": COUNT, "num_decoder_layers": COUNT},
        encoder_decoder.check,
    ),
    "decoder": Entry(
        decoder.Decoder,
        "Radford et al. 2019, Language models are unsupervised multitask learners",
        RANGES | {"num_layers": COUNT},
        decoder.check,
    ),
    "encoder": Entry(
        encoder.Encoder,
        "Devlin et al. 2018, https://arxiv.org/abs/1810.04805",
        RANGES | {"num_layers": COUNT, "num_types": AMOUNT},
        encoder.check,
    ),
}
