"""Packing: records made into rows of one length. A new one is a file here and a line.

Documents in one row are told apart by their segments; 0 is padding.
"""

from core.registry import Entry, Range
from data.packing.joined import Joined
from data.packing.packed import Packed, Packing
from data.packing.pairs import Pairs
from data.packing.stream import Stream

FIRST_FIT = "https://en.wikipedia.org/wiki/First-fit-decreasing_bin_packing"
FILLED = {"max_tokens": Range("[8, 65536]"), "min_fill_share": Range("[0, 1]")}

PACKING = {
    "pairs": Entry(Pairs, FIRST_FIT, FILLED),
    "stream": Entry(
        Stream,
        "Radford et al. 2019, Language models are unsupervised multitask learners",
        {"length": Range("[2, 1048576]")},
    ),
    "joined": Entry(
        Joined,
        "Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 3.2.1",
        FILLED,
    ),
}

__all__ = ["PACKING", "Joined", "Packed", "Packing", "Pairs", "Stream"]
