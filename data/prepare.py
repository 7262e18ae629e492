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
from data.packing import PACKING, Packing, pack, round_up, row_lengths
from data.ragged import Ragged, encode
from data.source import Record, Source, digest_of
from data.tokenizer import TOKENIZER, Tokenizer

FORMAT = 1  # of what is cached: raise it when the meaning of an array changes
SIDES = ("source", "target")

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
    has, of each split, `pairs rows tokens dropped_long dropped_blank fill_share`.
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
    settings = build(PACKING, config["packing"], "packing")
    content, checked = source.digest(), functools.cache(lambda: count(source))
    if tokenizer_model is None:
        tokenizer_model = _trained(source, content, config["tokenizer"], checked)
    tokenizer = Tokenizer(tokenizer_model)
    model_sum = hashlib.sha256(tokenizer_model).hexdigest()
    digest = digest_of(FORMAT, content, model_sum, settings)

    def make() -> cache.Entry:
        checked()
        return _packed(source, tokenizer, settings)

    entry = cache.fetch("rows", digest, make)
    rows: dict[str, dict[str, np.ndarray]] = {split: {} for split in source.splits}
    for name, value in entry.arrays.items():
        split, column = name.split("-")
        rows[split][column] = value
    return Prepared(tokenizer, digest, rows, entry.facts, source)


def validate(config: Config) -> dict[str, int]:
    """Reads all the data and writes nothing; the number of pairs by split.

    Raises:
      ValueError, FileNotFoundError: bad config or data, in one line.
    """
    return count(_source(config))


def _source(config: Config) -> Source:
    """The source, after the three blocks were held against their builders."""
    for name, block in BLOCKS.items():
        check(config[name], block, name)
    return build(SOURCES, config["data"], "data")


def count(source: Source) -> dict[str, int]:
    """The number of pairs by split, all of them read.

    Raises:
      ValueError: a split without text.
    """
    counts = {}
    for split in source.splits:
        counts[split] = usable = 0
        for record in source.records(split):
            counts[split] += 1
            usable += all(record[side].strip() for side in SIDES)
        if usable == 0:
            raise ValueError(f"data: the split {split!r} is empty: no pair with text.")
    return counts


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


def _packed(source: Source, tokenizer: Tokenizer, settings: Packing) -> cache.Entry:
    """All splits, packed; the row lengths are those of the training split."""
    arrays, facts, lengths = {}, {}, (0, 0)
    for split in sorted(source.splits, key=lambda split: split != "train"):
        sides = encode(source.records(split), tokenizer, SIDES)
        stats = {"pairs": len(sides[0].length_P), "dropped_long": 0, "dropped_blank": 0}
        if split == "train":
            sides = _fit_to_train_on(sides, settings.max_tokens, stats)
            lengths = row_lengths(sides[0].length_P, sides[1].length_P, settings)
        M, L = (
            max(length, round_up(side.length_P.max()))
            for length, side in zip(lengths, sides, strict=True)
        )
        rows = pack(sides[0], sides[1], M, L)
        tokens, num_rows = int(rows["tokens_R"].sum()), len(rows["tokens_R"])
        facts[split] = stats | {
            "rows": num_rows,
            "tokens": tokens,
            "fill_share": tokens / (num_rows * (M + L)),
        }
        arrays |= {f"{split}-{name}": value for name, value in rows.items()}
    return cache.Entry(arrays, facts)


def _fit_to_train_on(
    sides: list[Ragged], max_tokens: int, stats: dict[str, int]
) -> list[Ragged]:
    """The pairs with text on both sides and none too long; counts the others."""
    length_2P = np.stack([side.length_P for side in sides])
    blank_P, long_P = (length_2P == 1).any(0), (length_2P > max_tokens).any(0)
    keep_P = ~(blank_P | long_P)
    stats["dropped_blank"] = int(blank_P.sum())
    stats["dropped_long"] = int((long_P & ~blank_P).sum())
    if not keep_P.any():
        raise ValueError(
            f"packing.max_tokens={max_tokens} leaves nothing to train on: the shortest "
            f"pair has {int(length_2P.max(0)[~blank_P].min())} tokens."
        )
    return [side.take(keep_P) for side in sides]
