"""Metrics on text. A new one is a function here and a line in METRICS.

Source: sacreBLEU, Post 2018, https://arxiv.org/abs/1804.08771; chrF, Popović 2015,
https://aclanthology.org/W15-3049.
"""

from collections.abc import Sequence
from typing import Literal

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

Scores = dict[str, float | str]
Tokenizer = Literal["13a", "intl", "char", "zh"]


def bleu(
    predictions: Sequence[str], references: Sequence[str], tokenizer: Tokenizer
) -> Scores:
    """`bleu`, cased, and `bleu_lower`; a signature each, that makes it comparable."""
    scores: Scores = {}
    for name, lowercase in (("bleu", False), ("bleu_lower", True)):
        metric = BLEU(tokenize=tokenizer, lowercase=lowercase)
        scores[name] = metric.corpus_score(predictions, [references]).score
        scores[f"{name}_signature"] = str(metric.get_signature())
    return scores


def chrf(
    predictions: Sequence[str], references: Sequence[str], tokenizer: Tokenizer
) -> Scores:
    """chrF2 and its signature."""
    del tokenizer
    metric = CHRF()
    score = metric.corpus_score(predictions, [references]).score
    return {"chrf": score, "chrf_signature": str(metric.get_signature())}


def exact_match(
    predictions: Sequence[str], references: Sequence[str], tokenizer: Tokenizer
) -> Scores:
    """The share of predictions that are their reference, to the letter."""
    del tokenizer
    hits = [p == r for p, r in zip(predictions, references, strict=True)]
    return {"exact_match": sum(hits) / len(hits)}


METRICS = {"bleu": bleu, "chrf": chrf, "exact_match": exact_match}


def compared(
    sources: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    tokenizer: Tokenizer,
) -> Scores:
    """Every metric, and as `copy_...` that of copying the source: the baseline."""
    scores: Scores = {}
    for metric in METRICS.values():
        scores |= metric(predictions, references, tokenizer)
        copied = metric(sources, references, tokenizer)
        scores |= {
            f"copy_{name}": value
            for name, value in copied.items()
            if not name.endswith("_signature")
        }
    return scores
