"""The engine that a command line asks for."""

import shutil

from cluster import ENGINES
from cluster.engine import Engine
from core.refusal import shown
from core.registry import Entry, lookup


def engine_of(name: str, workers: str) -> Engine | None:
    """The engine that the words of a command line mean; None without a name.

    Raises:
      ValueError: one line.
    """
    if not name:
        if workers:
            raise ValueError(f"--workers={shown(workers)} needs an --engine.")
        return None
    entry: Entry = lookup(ENGINES, name, "--engine")
    if not (workers.isascii() and workers.isdigit() and 1 <= int(workers) <= 4096):
        raise ValueError(
            f"--workers={shown(workers)} must be a whole number in [1, 4096]: how many "
            "processes there are at once."
        )
    words = {"workers": int(workers)}
    if name == "processes" and shutil.which("nvidia-smi"):
        return entry.build(device="gpu", **words)
    return entry.build(**words)
