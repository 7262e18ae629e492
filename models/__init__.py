"""Models. A new one is a file here and a line in MODELS."""

from core.registry import Entry
from models import encoder_decoder

MODELS = {
    "encoder_decoder": Entry(
        encoder_decoder.EncoderDecoder,
        "Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        encoder_decoder.RANGES,
        encoder_decoder.check,
    ),
}
