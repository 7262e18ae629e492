"""Tasks. A new one is a file here, a line in TASKS, and one in FITS of fit.py."""

from core.registry import Entry, Note, Range
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

LOSSES = "tests/test_loss.py"
PENALTIES = "tests/test_penalties.py"
PENALTY = "tasks/penalties.py"

# What is a technique of its own, for the catalogue; of every task.
WORDS = {
    "smoothing": Note(
        LOSSES, PENALTY, source="Szegedy et al. 2015, https://arxiv.org/abs/1512.00567"
    ),
    "z_loss": Note(
        LOSSES,
        PENALTY,
        source="Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311",
    ),
    "confidence_penalty": Note(
        PENALTIES,
        PENALTY,
        source="Pereyra et al. 2017, https://arxiv.org/abs/1701.06548",
    ),
    "focal": Note(
        PENALTIES, PENALTY, source="Lin et al. 2017, https://arxiv.org/abs/1708.02002"
    ),
    "poly": Note(
        PENALTIES, PENALTY, source="Leng et al. 2022, https://arxiv.org/abs/2204.12511"
    ),
    "r_drop": Note(
        PENALTIES,
        PENALTY,
        cost="a second forward and backward pass",
        source="Liang et al. 2021, https://arxiv.org/abs/2106.14448",
    ),
}

TASKS = {
    "translation": Entry(
        translation.Translation,
        "Sutskever et al. 2014, https://arxiv.org/abs/1409.3215",
        LOSS,
        words=WORDS,
    ),
    "language": Entry(
        language.Language,
        "Radford et al. 2019, Language models are unsupervised multitask learners",
        LOSS,
        words=WORDS,
    ),
}
