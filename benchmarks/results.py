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

SCORES = ("bleu_lower", "bleu", "chrf", "exact_match")
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
    lines = [f"| split | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 1) + "|"]
    signature = ""
    for split, scores in summary.get("evaluations", {}).items():
        for name, prefix in ((split, ""), (f"{split}, source copied", "copy_")):
            row = " | ".join(f"{scores[prefix + key]:.4g}" for key in SCORES)
            lines.append(f"| {name} | {row} |")
        signature = "\n\n".join(
            f"`{key}`: {scores[f'{key}_signature']}" for key in ("bleu_lower", "chrf")
        )
    return "\n".join(lines) + "\n\n" + signature


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
