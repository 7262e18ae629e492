"""Tasks. A new one is a file here and a line in TASKS."""

from core.registry import Entry, Range
from tasks import translation

TASKS = {
    "translation": Entry(
        translation.Translation,
        "Sutskever et al. 2014, https://arxiv.org/abs/1409.3215; label smoothing: "
        "Szegedy et al. 2015, https://arxiv.org/abs/1512.00567",
        {"smoothing": Range("[0, 1)", neutral=0.0)},
    ),
}
