"""How large the branches of a block are at initialisation.

Source: `depth`: Radford et al. 2019 (GPT-2), section 2.3: 1 / sqrt(number of branches)
on what is added to the residual stream; `deepnorm`: Wang et al. 2022,
https://arxiv.org/abs/2203.00555, table in figure 2.
"""

from typing import NamedTuple

from models.settings import Settings


class Start(NamedTuple):
    """Factors on a block's kernels at initialisation, and on its residual for good.

    `out` is for what ends a branch, `inner` for values and what enters the MLP.
    """

    out: float = 1.0
    inner: float = 1.0
    residual: float = 1.0


def start_of(settings: Settings, num_layers: int, *, cross: bool) -> Start:
    """Of a stack that is a model by itself; `cross` if its blocks look at a memory."""
    gain = _out(settings, num_layers * (3 if cross else 2))
    if settings.norm != "deepnorm":
        return Start(out=gain)
    beta = (8 * num_layers) ** -0.25
    return Start(gain * beta, beta, (2 * num_layers) ** 0.25)


def starts_of(
    settings: Settings, num_encoder_layers: int, num_decoder_layers: int
) -> tuple[Start, Start]:
    """Of the two stacks of an encoder-decoder."""
    N, M = num_encoder_layers, num_decoder_layers
    encoder = start_of(settings, N, cross=False)
    decoder = start_of(settings, M, cross=True)
    if settings.norm != "deepnorm":
        return encoder, decoder
    beta = 0.87 * (N**4 * M) ** -0.0625
    encoder = Start(_out(settings, 2 * N) * beta, beta, 0.81 * (N**4 * M) ** 0.0625)
    beta = (12 * M) ** -0.25
    return encoder, Start(_out(settings, 3 * M) * beta, beta, (3 * M) ** 0.25)


def _out(settings: Settings, num_branches: int) -> float:
    return {"fan_in": 1.0, "depth": num_branches**-0.5, "zero": 0.0}[
        settings.initialization
    ]
