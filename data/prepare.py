"""From a config to rows: read, checked, tokenised and packed once, then mapped."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import sentencepiece

from core.registry import Block, build, check
from core.types import Config
from data import SOURCES, cache
from data.batches import Rows
from data.packing import PACKING, Packing
from data.source import Record, Source, digest_of
from data.tokenizer import TOKENIZER, Tokenizer

FORMAT = 2  # of what is cached: raise it when the meaning of an array changes

# The blocks of the config that this room reads.
BLOCKS = {
    "data": Block(SOURCES),
    "tokenizer": Block(TOKENIZER, given=("texts",)),
    "packing": Block(PACKING),
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Data as a run needs it.

    `digest` is that of all that decides the rows: texts, tokenizer, packing. `stats`
    has, of each split, `rows tokens fill_share` and what its packing counts.
    """

    tokenizer: Tokenizer
    digest: str
    rows: Mapping[str, Rows]
    stats: Mapping[str, Mapping[str, float]]
    source: Source

    def records(self, split: str) -> list[Record]:
        """All the records of a split, in their order, none dropped."""
        return list(self.source.records(split))


def prepare(config: Config, *, tokenizer_model: bytes | None = None) -> Prepared:
    """Rows for the blocks `data`, `tokenizer` and `packing` of `config`.

    With `tokenizer_model`, that of an earlier run, none is trained.

    Raises:
      ValueError, FileNotFoundError: bad config or data, found before anything is
        written; texts all longer than `max_tokens`, once the tokenizer is in the cache.
    """
    source = _source(config)
    packing = build(PACKING, config["packing"], "packing")
    content, checked = source.digest(), functools.cache(lambda: count(source, config))
    if tokenizer_model is None:
        tokenizer_model = _trained(source, content, config["tokenizer"], checked)
    tokenizer = Tokenizer(tokenizer_model)
    model_sum = hashlib.sha256(tokenizer_model).hexdigest()
    digest = digest_of(FORMAT, content, model_sum, packing)

    def make() -> cache.Entry:
        checked()
        return _packed(source, tokenizer, packing)

    entry = cache.fetch("rows", digest, make)
    rows: dict[str, dict[str, np.ndarray]] = {split: {} for split in source.splits}
    for name, value in entry.arrays.items():
        split, column = name.split("-")
        rows[split][column] = value
    return Prepared(tokenizer, digest, rows, entry.facts, source)


def validate(config: Config) -> dict[str, int]:
    """Reads all the data and writes nothing; the number of records by split.

    Raises:
      ValueError, FileNotFoundError: bad config or data, in one line.
    """
    return count(_source(config), config)


def _source(config: Config) -> Source:
    """The source, after the three blocks were held against their builders."""
    for name, block in BLOCKS.items():
        check(config[name], block, name)
    return build(SOURCES, config["data"], "data")


def count(source: Source, config: Config) -> dict[str, int]:
    """The number of records by split, all of them read.

    Raises:
      ValueError: a split without text, or without the columns that are packed.
    """
    counts = {}
    columns = build(PACKING, config["packing"], "packing").columns
    for split in source.splits:
        counts[split] = usable = 0
        for record in source.records(split):
            if not record.keys() >= set(columns):
                raise ValueError(_unfit(config, record))
            counts[split] += 1
            usable += all(record[column].strip() for column in columns)
        if usable == 0:
            raise ValueError(
                f"data: the split {split!r} is empty: nothing in it has text."
            )
    return counts


def _unfit(config: Config, record: Record) -> str:
    """The sentence about a source that has not what the packing reads."""
    name, source = config["packing"]["name"], config["data"]["name"]
    fitting = [
        other
        for other, entry in PACKING.items()
        if record.keys() >= set(entry.build().columns)
    ]
    return (
        f"packing.name={name!r} does not fit data.name={source!r}, whose records have "
        f"{sorted(record)}. Known for them: {fitting}."
    )


def _trained(
    source: Source, content: str, options: Config, checked: Callable[[], object]
) -> bytes:
    """The model of a tokenizer for the training split, from the cache or new."""

    def make() -> cache.Entry:
        checked()
        texts = (text for record in source.records("train") for text in record.values())
        model = build(TOKENIZER, options, "tokenizer", texts=texts).model
        return cache.Entry({"model": np.frombuffer(model, np.uint8)}, {})

    takes = BLOCKS["tokenizer"].options(options, "tokenizer")
    whole = {key: parameter.default for key, parameter in takes.items()} | dict(options)
    key = digest_of(FORMAT, content, sentencepiece.__version__, sorted(whole.items()))
    return cache.fetch("tokenizer", key, make).arrays["model"].tobytes()


def _packed(source: Source, tokenizer: Tokenizer, packing: Packing) -> cache.Entry:
    """All splits, packed; the training split first, which may decide row lengths."""
    arrays, facts, train = {}, {}, None
    for split in sorted(source.splits, key=lambda split: split != "train"):
        rows, facts[split] = packing.pack(source.records(split), tokenizer, train)
        arrays |= {f"{split}-{name}": value for name, value in rows.items()}
        train = train or rows
    return cache.Entry(arrays, facts)
