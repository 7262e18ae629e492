"""Data: sources of records, made into packed rows. Host side: numpy only.

A new source is a file here and a line in SOURCES.
"""

from core.registry import Entry
from data import files, hub, parquet, text
from data.batches import Batches, in_order
from data.cldr import lesson
from data.packing import PACKING
from data.tokenizer import TOKENIZER, Tokenizer

SOURCES = {
    "cldr": lesson.ENTRY,
    "text": text.ENTRY,
    "parallel": Entry(files.parallel, "two plain texts"),
    "tsv": Entry(files.tsv, "tab-separated values with a header"),
    "jsonl": Entry(files.jsonl, "https://jsonlines.org"),
    "parquet": Entry(parquet.parquet, "https://parquet.apache.org"),
    "hub": Entry(hub.hub, "https://huggingface.co/docs/datasets"),
}

from data.prepare import BLOCKS, Prepared, prepare, validate  # noqa: E402 - reads SOURCES

__all__ = [
    "BLOCKS",
    "PACKING",
    "SOURCES",
    "TOKENIZER",
    "Batches",
    "Prepared",
    "Tokenizer",
    "in_order",
    "prepare",
    "validate",
]
