"""Using a trained run: its scores on a split, and its answers to lines of text."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from core.refusal import listed, nearest, shown
from data.prepare import prepare
from data.tokenizer import EOS, PAD, Tokenizer
from train import mesh as meshes
from train.checkpoints import load_params
from train.folder import Folder
from train.logs import write_bytes, write_json
from train.program import program_of, use_compilation_cache
from train.progress import Progress

BUCKET = 16  # source lengths are padded to a multiple, so that few programs compile
EXAMPLES = 10  # printed by `evaluate`


class Translator:
    """Text to text with the parameters of a run.

    Raises:
      FileNotFoundError, ValueError: the folder holds no such run or checkpoint.
    """

    def __init__(self, folder: Folder, checkpoint: str | int = "best"):
        use_compilation_cache()
        self.config = folder.read_config()
        model = folder.read_tokenizer()
        if model is None:
            raise FileNotFoundError(f"{folder.path} holds no {folder.tokenizer.name}.")
        self.tokenizer = Tokenizer(model)
        self._mesh = meshes.make_mesh()
        vocab = self.tokenizer.vocab
        self._program, values = program_of(
            self.config, num_steps=1, vocab=vocab, mesh=self._mesh
        )
        fixed = meshes.everywhere(self._mesh)
        self._values = jax.device_put(values, fixed)
        self.task = self._program.task(values)
        abstract = self._program.shape(self._values, jax.random.key(0)).params
        best = self.config["checkpoint"]["best"]
        self._params = load_params(folder.path, checkpoint, abstract, best)

    def __call__(
        self, lines: Sequence[str], num_rows: int
    ) -> Iterator[tuple[int, str]]:
        """The best output of every line, with its number, in the order of length.

        `num_rows` lines at once; as many programs as there are buckets of lengths.
        """
        sources = [[*ids, EOS] for ids in self.tokenizer.encode_all(lines)]
        num_rows = -(-num_rows // jax.device_count()) * jax.device_count()
        order = sorted(range(len(lines)), key=lambda n: -len(sources[n]))
        for start in range(0, len(order), num_rows):
            numbers = order[start : start + num_rows]
            tokens = self._predict([sources[n] for n in numbers], num_rows)
            yield from zip(numbers, map(self.tokenizer.decode, tokens), strict=True)

    def records(self, split: str) -> list[dict[str, str]]:
        """The records of a split of the run's data."""
        config, model = self.config, self.tokenizer.model
        prepared = prepare(config, tokenizer_model=model)
        known = prepared.source.splits
        if split not in known:
            raise ValueError(
                f"split={shown(split)} is not known.{nearest(split, known)} "
                f"Known: {listed(known)}."
            )
        return prepared.records(split)

    def _predict(self, sources: list[list[int]], num_rows: int) -> list[np.ndarray]:
        longest = max(map(len, sources))
        M = -(-longest // BUCKET) * BUCKET
        source_BM = np.zeros((num_rows, M), np.int32)
        for row, tokens in zip(source_BM, sources, strict=False):
            row[: len(tokens)] = tokens
        # A row without a source would never end.
        source_BM[len(sources) :, 0] = EOS
        batch = {
            "source_BM": source_BM,
            "source_segment_BM": (source_BM != PAD).astype(np.int32),
        }
        placed = meshes.place_rows(self._mesh, batch)
        best_BRT, _ = self._program.predict(
            self._params, placed, self._values, room=2 * M + BUCKET
        )
        return list(jax.device_get(best_BRT)[: len(sources), 0])


def evaluate(
    workdir: str, *, split: str = "test", checkpoint: str | int = "best"
) -> dict[str, Any]:
    """Scores a split, into `summary.json` and `predictions/`; prints some examples.

    Raises:
      FileNotFoundError, ValueError: what the user can mend.
    """
    folder = Folder(workdir)
    translator = Translator(folder, checkpoint)
    records = translator.records(split)
    sources = [record["source"] for record in records]
    references = [record["target"] for record in records]
    predictions = [""] * len(records)
    num_rows = translator.config["decode"]["batch_size"]
    with Progress(len(records)) as progress:
        outputs = translator(sources, num_rows)
        for done, (number, text) in enumerate(outputs, start=1):
            predictions[number] = text
            progress.at(done)
    scores = translator.task.evaluate(sources, predictions, references)

    path = folder.predictions / f"{split}.jsonl"
    path.parent.mkdir(exist_ok=True)
    columns = zip(sources, predictions, references, strict=True)
    lines = [
        json.dumps(dict(source=s, prediction=p, reference=r), ensure_ascii=False)
        for s, p, r in columns
    ]
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    scores |= {"split": split, "checkpoint": checkpoint}
    summary = folder.read_summary()
    summary |= scores
    summary["evaluations"] = summary.get("evaluations", {}) | {split: scores}
    write_json(folder.summary, summary)
    _tell(folder, scores, lines)
    return scores


def predict(workdir: str, lines: Iterable[str], *, at_once: int = 1) -> Iterator[str]:
    """The answer to each line, in their order, `at_once` lines at a time."""
    translator = Translator(Folder(workdir))
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == at_once:
            yield from _answers(translator, waiting, at_once)
            waiting = []
    if waiting:
        yield from _answers(translator, waiting, at_once)


def _answers(translator: Translator, lines: list[str], at_once: int) -> list[str]:
    answers = dict(translator(lines, at_once))
    return [answers[number] for number in range(len(lines))]


def _tell(folder: Folder, scores: dict[str, Any], lines: Sequence[str]) -> None:
    """Examples, scores, where they are, and what to try."""
    for line in lines[:EXAMPLES]:
        example = json.loads(line)
        for name, text in example.items():
            print(f"{name:>10}  {text}")
        print()
    for name in ("bleu", "bleu_lower", "chrf", "exact_match"):
        copied = scores[f"copy_{name}"]
        print(f"{name:>11}  {scores[name]:.4g}  (copying the source: {copied:.4g})")
    print(scores["bleu_signature"])
    print(f"Predictions: {folder.predictions / (scores['split'] + '.jsonl')}")
