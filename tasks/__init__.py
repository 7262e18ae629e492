"""Tasks. A new one is a file here, a line in TASKS, and one in FITS of fit.py."""

from core.registry import Entry, Range
from tasks import language, translation

LOSS = {
    "smoothing": Range("[0, 1)", neutral=0.0),
    "z_loss": Range("[0, inf)", neutral=0.0),
    "confidence_penalty": Range("[0, inf)", neutral=0.0),
    "focal": Range("[0, inf)", neutral=0.0),
    "poly": Range("[-1, inf)", neutral=0.0),
    "r_drop": Range("[0, inf)", neutral=0.0),
    "chunk": Range("[0, inf)"),
}

TASKS = {
    "translation": Entry(
        translation.Translation,
        "Sutskever et al. 2014, https://arxiv.org/abs/1409.3215; label smoothing: "
        "Szegedy et al. 2015, https://arxiv.org/abs/1512.00567",
        LOSS,
    ),
    "language": Entry(
        language.Language,
        "Radford et al. 2019, Language models are unsupervised multitask learners",
        LOSS,
    ),
}
