"""The scores of a trained run on a split of its data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from data.source import Record
from train.folder import Folder
from train.generate import generate
from train.logs import write_bytes, write_json
from train.progress import Progress
from train.trained import Trained

EXAMPLES = 10  # printed by `evaluate`
Scores = dict[str, Any]


def evaluate(
    workdir: str,
    *,
    split: str = "test",
    checkpoint: str | int = "best",
    overrides: Mapping[str, str] | None = None,
) -> Scores:
    """Scores a split, into `summary.json`; prints the scores, and examples of answers.

    A task whose texts answer others is held against the references, too; its answers
    are kept in `predictions/`.

    Raises:
      FileNotFoundError, ValueError: what the user can mend.
    """
    folder = Folder(workdir)
    run = Trained(folder, checkpoint, overrides)
    prepared = run.prepared(split)
    scores: Scores = run.scores(prepared, split)
    lines: list[str] = []
    if not run.task.continues:
        answered, lines = _answered(run, prepared.records(split))
        scores |= answered
        path = folder.predictions / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
        scores |= {"decode": dict(run.config["decode"])}
    scores |= {"split": split, "checkpoint": checkpoint}
    summary = folder.read_summary()
    known = summary.get("evaluations", {})
    # The loss at the top is that of training; that of a split stands under the split.
    summary |= {name: value for name, value in scores.items() if name != "loss"}
    summary["evaluations"] = known | {split: scores}
    write_json(folder.summary, summary)
    _tell(folder, scores, lines)
    return scores


def _answered(run: Trained, records: Sequence[Record]) -> tuple[Scores, list[str]]:
    """The metrics of the first answer to every source, and a line of JSON for each."""
    sources = [record["source"] for record in records]
    references = [record["target"] for record in records]
    predictions = [""] * len(records)
    with Progress(len(records)) as progress:
        for done, (number, answers) in enumerate(generate(run, sources), start=1):
            predictions[number] = answers[0].text
            progress.at(done)
    columns = zip(sources, predictions, references, strict=True)
    lines = [
        json.dumps(dict(source=s, prediction=p, reference=r), ensure_ascii=False)
        for s, p, r in columns
    ]
    return dict(run.task.evaluate(sources, predictions, references)), lines


def _tell(folder: Folder, scores: Scores, lines: Sequence[str]) -> None:
    """Examples, scores, and where they are."""
    for line in lines[:EXAMPLES]:
        example = json.loads(line)
        for name, text in example.items():
            print(f"{name:>10}  {text}")
        print()
    for name, value in scores.items():
        if isinstance(value, float) and not name.startswith("copy_"):
            copied = scores.get(f"copy_{name}")
            beside = "" if copied is None else f"  (copying the source: {copied:.4g})"
            print(f"{name:>14}  {value:.4g}{beside}")
    if "bleu_signature" in scores:
        print(scores["bleu_signature"])
    if lines:
        print(f"Predictions: {folder.predictions / (scores['split'] + '.jsonl')}")
    print(f"Scores: {folder.summary}")
