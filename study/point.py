"""One point of a sweep: what it changes in the config, its seed, its name."""

import hashlib
import re
from typing import Any, NamedTuple

from core.overrides import resolve
from core.settings import Blocks, dump
from core.types import Config

DIGITS = 10  # of the id: among 10,000 points two share one with a chance of 5e-5
LENGTH = 80  # characters of a name, the folder of a run


class Point(NamedTuple):
    """Values of a flat dict by dotted key, and the seed that they are run with."""

    overrides: dict[str, Any]
    seed: int

    @property
    def id(self) -> str:
        """Of the content: the same values with the same seed, in whatever order.

        >>> Point({"a": 1.0, "b": 2}, 0).id == Point({"b": 2, "a": 1.0}, 0).id
        True
        """
        content = dict(sorted(self.overrides.items()))
        text = dump({"overrides": content, "seed": self.seed})
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    @property
    def name(self) -> str:
        """Of its run's folder: to be read up to the id, which alone tells it apart.

        >>> Point({"optim.rule.name": "lion", "optim.decay": 0.1}, 3).name
        'rule=lion,decay=0.1,seed=3-46bd3a7ad9'
        """
        words = [
            f"{_leaf(key)}={_brief(self.overrides[key])}" for key in self.overrides
        ]
        seed = f"seed={self.seed}-{self.id}"
        kept = ",".join(words)[: LENGTH - len(seed) - 1].rstrip(",=")
        return f"{kept},{seed}" if kept else seed

    @property
    def setting(self) -> str:
        """The id of the values alone: what runs of several seeds have in common.

        >>> Point({"a": 1.0}, 0).setting == Point({"a": 1.0}, 4).setting
        True
        """
        return Point(self.overrides, 0).id


def texts(point: Point) -> dict[str, str]:
    """The point as it is typed on a command line, by key: `--config.KEY=VALUE`.

    >>> texts(Point({"optim.decay": 0.1, "data.langs": ("de", "fr")}, 3))
    {'optim.decay': '0.1', 'data.langs': "('de', 'fr',)", 'seed': '3'}
    """
    return {key: text_of(value) for key, value in point.overrides.items()} | {
        "seed": str(point.seed)
    }


def configure(config: Config, point: Point, blocks: Blocks) -> dict[str, Any]:
    """The complete, checked config of a point.

    Raises:
      ValueError: one line that names the key, its value and what is allowed.
    """
    return resolve(config, texts(point), blocks)[0]


def text_of(value: Any) -> str:
    """A value as `core/overrides.py` reads it.

    >>> text_of(True), text_of(""), text_of((1,)), text_of(1e-3), text_of("adam")
    ('true', "''", '(1,)', '0.001', 'adam')
    """
    if isinstance(value, tuple):
        items = [repr(v) if isinstance(v, str) else text_of(v) for v in value]
        return f"({''.join(f'{item}, ' for item in items)[:-1]})"
    if isinstance(value, bool):
        return str(value).lower()
    return (value or "''") if isinstance(value, str) else repr(value)


def _leaf(key: str) -> str:
    """`decay` of optim.decay, `rule` of optim.rule.name."""
    return key.removesuffix(".name").rpartition(".")[2]


def _brief(value: Any) -> str:
    """A value in letters that every file system takes."""
    text = f"{value:.4g}" if isinstance(value, float) else text_of(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_.")
