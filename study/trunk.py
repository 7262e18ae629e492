"""Branches: runs that go on from a checkpoint of another, their trunk.

Many cooldowns, or variants, of one trunk cost its steps once. A branch is an ordinary
run folder, of a run that was stopped at the step it forks at: `train`, `evaluate` and
packs of trials go on with it as with any other.
Source: Hägele et al. 2024, https://arxiv.org/abs/2405.18392, section 3.
"""

import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from core.refusal import shown
from core.settings import dump
from core.types import Config
from study.point import Point
from train import fingerprint, leaves, manifest
from train.assemble import Parts, flops_of
from train.folder import Folder, locked
from train.logs import read_json, read_metrics, write_bytes, write_json
from train.shelf import Shelf

RECORD = "trunk.json"
DIGITS = 16


class Cost(NamedTuple):
    """What training took; `seconds` are those of steps, without compiling."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    model_flops: float = 0.0

    def since(self, start: "Cost") -> "Cost":
        """What came after `start`."""
        return Cost(
            self.steps - start.steps,
            self.tokens - start.tokens,
            self.seconds - start.seconds,
            self.model_flops - start.model_flops,
        )


class Fork(NamedTuple):
    """A sealed checkpoint of a trunk. `digest` is that of all its files."""

    trunk: Folder
    step: int
    digest: str
    facts: manifest.Manifest


def fork_at(trunk: Folder, step: int) -> Fork:
    """The checkpoint of a run that is to be branched from.

    Raises:
      FileNotFoundError: the folder holds no run.
      ValueError: it has no checkpoint of this step; names the nearest.
    """
    best = trunk.read_config()["checkpoint"]["best"]
    shelf = Shelf(trunk.checkpoints.absolute(), best)
    listed = shelf.listed() if trunk.checkpoints.is_dir() else {}
    if step not in listed:
        near = min(listed, key=lambda other: abs(other - step), default=None)
        there = "it has none" if near is None else f"the nearest is {near}"
        raise ValueError(
            f"--step={step}: {shown(str(trunk.path), 60)} has no checkpoint of it; "
            f"{there}. checkpoint.every_steps and checkpoint.keep say which are kept."
        )
    digest = hashlib.sha256((shelf.at(step) / manifest.NAME).read_bytes()).hexdigest()
    return Fork(trunk, step, digest[:DIGITS], listed[step])


def named(fork: Fork, config: Config) -> str:
    """The name of a branch's folder, which follows from its content alone.

    To be read: the step and what is changed; told apart by the whole config and the
    checkpoint.
    """
    old, new = (fingerprint.flat(c) for c in (fork.trunk.read_config(), config))
    changed = {key: new[key] for key in new if new[key] != old.get(key)}
    words = Point({"step": fork.step} | changed, config["seed"]).name
    content = dump({"config": config, "checkpoint": fork.digest})
    digest = hashlib.sha256(content.encode()).hexdigest()[:DIGITS]
    return f"{words.rpartition('-')[0]}-{digest}"


def branch(trunk: Folder, step: int, parts: Parts, into: pathlib.Path) -> None:
    """Makes the run of `parts`, as far as its trunk has come, in the folder `into`.

    A crash leaves the whole folder or none, and one that is there stays. The branch has
    the trunk's tokenizer and log; what the trunk ran on (code, devices) is kept, so
    that a drift since is refused as it is in a run that goes on.

    Raises:
      ValueError: the trunk has no such checkpoint, or it is damaged; the branch has
        no steps left, another state, or other tokens up to there. Nothing is made.
    """
    if (into / RECORD).is_file():
        return
    fork = fork_at(trunk, step)
    lines = _lines(fork)
    _check(fork, parts, lines)
    if into.exists():
        raise ValueError(f"{into} is there, and is no branch.")
    draft = into.with_name(f".{into.name}.draft")
    with locked(draft):
        _empty(draft)
        _fill(draft, fork, parts, lines)
        os.rename(draft, into)
        manifest.flush(into.parent)


def _check(fork: Fork, parts: Parts, lines: list[dict[str, Any]]) -> None:
    """Refuses what cannot go on from the fork."""
    if parts.num_steps <= fork.step:
        raise ValueError(
            f"num_steps={parts.num_steps} must be more than --step={fork.step}, from "
            "which the branch goes on."
        )
    shape = parts.program.shape(parts.values, jax.random.key(0))
    leaves.targets(shape, fork.facts["leaves"], fork.step)
    if not lines:
        return
    ours = parts.batches.tokens_before(lines[-1]["step"])
    if ours != lines[-1]["tokens"]:
        raise ValueError(
            f"By step {lines[-1]['step']} the branch would have read {ours} tokens, "
            f"and the trunk has read {lines[-1]['tokens']}: batches must be as large."
        )


def _fill(
    draft: pathlib.Path, fork: Fork, parts: Parts, lines: list[dict[str, Any]]
) -> None:
    """All that the folder of a branch holds, flushed."""
    here, trunk, step = Folder(draft), fork.trunk, fork.step
    copy = here.checkpoints / str(step)
    shutil.copytree(trunk.checkpoints / str(step), copy)
    try:
        manifest.verify(copy)
    except manifest.Damaged as damage:
        raise ValueError(
            f"--step={step}: the checkpoint is damaged ({damage})."
        ) from damage
    config, then = parts.config, fork.facts["fingerprint"]
    digest = parts.prepared.digest
    facts = fingerprint.branched(then, config, data_digest=digest)
    log = trunk.path / "metrics.jsonl"
    content = log.read_bytes() if lines else b""
    kept = content.splitlines(keepends=True)[: len(lines)]
    write_bytes(draft / log.name, b"".join(kept))
    write_bytes(here.tokenizer, trunk.read_tokenizer() or b"")
    write_bytes(here.config, dump(config).encode() + b"\n")
    write_json(here.provenance, {"fingerprint": facts, "launches": []})
    tokens = parts.batches.tokens_before(step)
    cost = Cost(
        steps=step,
        tokens=tokens,
        seconds=lines[-1]["seconds"] if lines else 0.0,
        model_flops=flops_of(parts._replace(num_steps=step), tokens),
    )
    record = {
        "format": 1,
        "id": _id(trunk),
        "step": step,
        "checkpoint": fork.digest,
        "fingerprint": then,
        "cost": cost._asdict(),
        "trunk": _record(trunk),
    }
    write_json(draft / RECORD, record)
    for path in draft.rglob("*"):
        manifest.flush(path)
    manifest.flush(draft)


def total(folders: Iterable[pathlib.Path]) -> Cost:
    """What runs that have ended took together; what they share is counted once.

    Runs of equal configs, and branches of equal checkpoints, are one run.

    Raises:
      ValueError: a run has not ended.
    """
    spans: dict[str, tuple[Cost, Cost]] = {}
    for path in folders:
        run = Folder(path)
        summary = run.read_summary()
        if not summary:
            raise ValueError(f"{path} has not ended, so what it took is not known.")
        name, end = _id(run), Cost(*(summary[field] for field in Cost._fields))
        record = _record(run)
        while True:
            start = Cost(**record["cost"]) if record else Cost()
            longest = spans.get(name, (start, end))[1]
            spans[name] = (start, max(longest, end))
            if not record:
                break
            name, end, record = record["id"], start, record["trunk"]
    spent = [end.since(start) for start, end in spans.values()]
    return Cost(
        sum(each.steps for each in spent),
        sum(each.tokens for each in spent),
        sum(each.seconds for each in spent),
        sum(each.model_flops for each in spent),
    )


def _id(run: Folder) -> str:
    """Of a run's content: its config and, of a branch, the checkpoint that it is of."""
    content = {"config": run.read_config(), "of": _record(run).get("checkpoint", "")}
    return hashlib.sha256(dump(content).encode()).hexdigest()[:DIGITS]


def _record(run: Folder) -> dict[str, Any]:
    """What a branch knows of its trunk; of a run that is none, nothing."""
    path = run.path / RECORD
    return read_json(path) if path.is_file() else {}


def _lines(fork: Fork) -> list[dict[str, Any]]:
    """What the trunk had logged when it came to the fork."""
    if not (fork.trunk.path / "metrics.jsonl").is_file():
        return []
    return [x for x in read_metrics(fork.trunk.path) if x["step"] <= fork.step]


def _empty(folder: pathlib.Path) -> None:
    """Deletes what a crash left; the lock stays."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()
