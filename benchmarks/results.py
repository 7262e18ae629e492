"""The page of a finished run: what was run, where, and what came of it.

    python benchmarks/results.py runs/multi30k docs/results/multi30k.md TITLE REMARK

Every number on the page is read from the run folder; the remark says what they mean.
"""

import pathlib
import re
import shlex
import sys
from typing import Any

from core.settings import dump, load
from train.logs import read_json, read_metrics

CURVE = ("step", "loss", "val_loss", "rate", "grad_norm", "tokens", "seconds")
LINES = 24  # of the curve, at most
FOLDER = re.compile("(--workdir|--config.data.folder)=.*")


def page(folder: pathlib.Path, title: str, remark: str) -> str:
    """The Markdown of one run."""
    summary = read_json(folder / "summary.json")
    record = read_json(folder / "provenance.json")
    config = load(folder / "config.json")
    parts = [
        f"# {title}\n\n{remark}",
        _origin(record, config),
        "## Scores\n\n" + _scores(summary),
        "## Training\n\n" + _training(summary),
        "## Curve\n\n" + _curve(read_metrics(folder)),
        f"## Config\n\n```json\n{dump(_placeless(config))}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(record: dict[str, Any], config: dict[str, Any]) -> str:
    """Command, code, machine and seed of the run."""
    first = record["launches"][0]
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items() if v)
    words = [FOLDER.sub(r"\1=DIR", word) for word in first["command"]]
    dirty = " with changes" if first["dirty"] else ""
    return "\n".join(
        [
            f"* command: `python {shlex.join(words)}`",
            f"* started {first['started']}, {len(record['launches'])} launch(es)",
            f"* commit {first['commit']}{dirty}; code {record['fingerprint']['code']}",
            f"* seed {config['seed']}",
            f"* {first['num_devices']} device(s): {first['device_kind']}, "
            f"{first['cores']} cores",
            f"* {versions}",
        ]
    )


def _placeless(config: dict[str, Any]) -> dict[str, Any]:
    """Without where the data lay."""
    data = config["data"]
    return config | {"data": data | ({"folder": "DIR"} if "folder" in data else {})}


def _scores(summary: dict[str, Any]) -> str:
    """A row a split, and a row of the baseline that copies the source."""
    splits = summary.get("evaluations", {})
    every = {key: value for scores in splits.values() for key, value in scores.items()}
    rows = {}
    for split, scores in splits.items():
        numbers = {k: v for k, v in scores.items() if not isinstance(v, str)}
        own = {k: v for k, v in numbers.items() if not k.startswith("copy_")}
        copied = {k: numbers[f"copy_{k}"] for k in own if f"copy_{k}" in numbers}
        rows[split] = own
        if copied:
            rows[f"{split}, source copied"] = copied
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [f"| split | {' | '.join(keys)} |", "|---" * (len(keys) + 1) + "|"]
    for name, row in rows.items():
        cells = (f"{row[key]:.4g}" if key in row else "" for key in keys)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    signed = (
        f"`{key.removesuffix('_signature')}`: {value}"
        for key, value in every.items()
        if key.endswith("_signature")
    )
    return "\n\n".join(["\n".join(lines), *signed])


def _training(summary: dict[str, Any]) -> str:
    keys = ("parameters", "steps", "best_step", "tokens", "seconds", "compile_seconds")
    keys += ("tokens_per_second", "mfu", "loss", "val_loss")
    rows = [f"| {key} | {_number(summary[key])} |" for key in keys]
    return "\n".join(["| | |", "|---|---|", *rows])


def _curve(lines: list[dict[str, Any]]) -> str:
    """Evenly spaced lines of `metrics.jsonl`, those with a validation loss first."""
    chosen = [line for line in lines if "val_loss" in line]
    chosen = chosen[:: -(-len(chosen) // LINES)]
    rows = [
        "| " + " | ".join(_number(line.get(key)) for key in CURVE) + " |"
        for line in chosen
    ]
    return "\n".join([f"| {' | '.join(CURVE)} |", "|---" * len(CURVE) + "|", *rows])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


if __name__ == "__main__":
    where, out, *texts = sys.argv[1:]
    pathlib.Path(out).write_text(page(pathlib.Path(where), *texts))
    print(f"Wrote {out}.")
