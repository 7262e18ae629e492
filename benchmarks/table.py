"""The results of the race as Markdown."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import problem

NAMES = {
    "ours": "Steepest",
    "stock": "Hugging Face Marian, torch, as installed",
    "unlocked": "the same, MKL's vendor check lifted",
}
WANTED = {0.0: 0.65, 0.1: 0.85}  # of the unlocked peer's tokens/s, by dropout
TRAINING = 3  # forward passes that a training step is worth

SIDES = """
## What each side does

Both: {layers}+{layers} layers of width {width}, MLP {mlp}, {heads} heads, vocabulary
{vocab:,}, one embedding for source, target and output, sinusoidal places, post-norm,
ReLU; batch {rows} x ({length} + {length}) tokens, all rows full; float32; AdamW of the
same numbers, rate {rate}, decay {decay}, no clipping; cross-entropy without smoothing;
the same batches. Tokens are source and target together.

* Steepest: `train.program`'s compiled step, as a run has it: attention under its masks
  for packed rows, the numerics guard, the scores. No biases in linear layers. The batch
  is copied in within the time.
* Marian: eager torch, `attn_implementation="sdpa"`, no attention mask (rows are full),
  fused AdamW.

Dropout, on both sides: embeddings and the output of each sublayer; none on attention
weights nor inside the MLP (as in the paper, and Marian's defaults).

A turn is one step that is not timed, {steps} that are, then products of two
{gemm} x {gemm} float32 matrices, of which the fastest counts as the peak. All
contestants of a table live at once and work one after another, in the order of the
table, {rounds} times. MFU: three times the matrix products of a forward pass (a
multiply-add is two; those of our model for all), over the highest of the contestants'
median peaks. RSS is the highest of the whole process, compilation
included.
"""


def render(results: Mapping[str, Any]) -> str:
    """The page; `results` is what `train_step.measure` returns."""
    lines = ["# A training step against Hugging Face Marian", ""]
    lines += _head(results)
    for race in results["races"]:
        lines += _race(race)
    sides = SIDES.format(
        layers=problem.NUM_LAYERS,
        width=problem.WIDTH,
        mlp=problem.MLP_WIDTH,
        heads=problem.NUM_HEADS,
        vocab=problem.VOCAB,
        rows=problem.NUM_ROWS,
        length=problem.LENGTH,
        rate=problem.RATE,
        decay=problem.DECAY,
        gemm=problem.GEMM_SIZE,
        steps=results["steps"],
        rounds=results["rounds"],
    )
    return "\n".join(lines) + "\n" + sides


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    facts = results["races"][0]["facts"]
    ours, peer, cpu = facts["ours"], facts["stock"], results["cpu"]
    commit = ours["commit"] or "none"
    changed = ", with changes that are not committed" if ours["dirty"] else ""
    yield "Written by `benchmarks/train_step.py`; do not edit."
    yield ""
    yield f"* Date: {results['started']}. Commit: {commit}{changed}."
    yield f"* Command: `{results['command']}`"
    yield (
        f"* Machine: {cpu['model']}, {ours['cores']} cores ({cpu['vectors']}); "
        f"{results['system']}. Load average before: {results['load_before']:.2f}"
        f"{_noise(results['load_before'], ours['cores'])}."
    )
    yield f"* Steepest: {_versions(ours)}. Marian: {_versions(peer)}."
    yield f"* {_vendor(peer['vendor_check_passes'], cpu['vendor'])}"


def _noise(load: float, cores: int) -> str:
    """A warning where others were at work."""
    return ": NOT a quiet machine" if load > cores / 4 else ""


def _versions(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in facts["versions"].items())


def _vendor(passes: bool, vendor: str) -> str:
    """What lifting the check is worth on this CPU."""
    if passes:
        return (
            f"MKL's vendor check passes on this CPU ({vendor}) as it is: lifting it "
            "changes nothing here, and the two Marians differ by noise only."
        )
    return (
        f"MKL's vendor check fails on this CPU ({vendor}): lifting it lets MKL use all."
    )


def _race(race: Mapping[str, Any]) -> Iterator[str]:
    """The section of one dropout."""
    facts, turns = race["facts"], race["turns"]
    peaks = {name: _median(turns[name], "peak_flops") for name in NAMES}
    dropout = (
        "without dropout" if race["dropout"] == 0 else f"dropout {race['dropout']}"
    )
    yield from ("", f"## {dropout[0].upper()}{dropout[1:]}", "")
    yield "| | tokens/s, median | min to max | MFU | peak GFLOP/s | RSS GB | loss |"
    yield "|---|---|---|---|---|---|---|"
    flops = TRAINING * facts["ours"]["forward_flops"] / problem.TOKENS_PER_STEP
    for name, title in NAMES.items():
        paces = [turn["tokens_per_second"] for turn in turns[name]]
        middle, loss = statistics.median(paces), turns[name][-1]["loss"]
        first = race["first_loss"][name]
        yield (
            f"| {title} | {middle:,.0f} | {min(paces):,.0f} to {max(paces):,.0f} "
            f"| {middle * flops / max(peaks.values()):.0%} | {peaks[name] / 1e9:.0f} "
            f"| {facts[name]['peak_rss_bytes'] / 1e9:.2f} | {first:.2f} to {loss:.2f} |"
        )
    yield ""
    yield from _ratios(race["dropout"], turns)
    yield from ("", f"Ours with pieces={race['pieces']}{_tried(race['tried'])}.")
    yield _learned(race)
    skipped = facts["ours"]["skipped"]
    sizes = f"{facts['ours']['parameters']:,} and {facts['stock']['parameters']:,}"
    yield f"Parameters: {sizes}. Steps that our guard skipped: {skipped}."


def _ratios(dropout: float, turns: Mapping[str, Any]) -> Iterator[str]:
    """Ours over each peer's tokens/s, round by round."""
    rounds = range(1, len(turns["ours"]) + 1)
    numbers = " | ".join(f"round {number}" for number in rounds)
    yield f"| tokens/s, ours over | min | median | max | wanted | {numbers} |"
    yield "|---" * (5 + len(rounds)) + "|"
    for name in ("stock", "unlocked"):
        ratios = [
            ours["tokens_per_second"] / peer["tokens_per_second"]
            for ours, peer in zip(turns["ours"], turns[name], strict=True)
        ]
        middle = statistics.median(ratios)
        wanted = "" if name == "stock" else _verdict(middle, WANTED[dropout])
        each = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        yield (
            f"| {NAMES[name]} | {min(ratios):.2f} | {middle:.2f} | {max(ratios):.2f} "
            f"| {wanted} | {each} |"
        )


def _verdict(ratio: float, wanted: float) -> str:
    """Judged before rounding.

    >>> _verdict(0.6499, 0.65)
    '0.65: missed'
    """
    return f"{wanted}: {'reached' if ratio >= wanted else 'missed'}"


def _tried(tried: Mapping[int, float]) -> str:
    if not tried:
        return ""
    each = ", ".join(f"{pieces}: {pace:,.0f}" for pieces, pace in tried.items())
    return f", the fastest in trials before the race (tokens/s by pieces: {each})"


def _learned(race: Mapping[str, Any]) -> str:
    """Whether every contestant's loss has fallen, so that the work was training."""
    stuck = [
        title
        for name, title in NAMES.items()
        if not race["turns"][name][-1]["loss"] < race["first_loss"][name]
    ]
    if stuck:
        return f"The loss did NOT fall of: {'; '.join(stuck)}."
    return "The loss of every contestant fell from its first step to its last."


def _median(turns: Sequence[Mapping[str, float]], key: str) -> float:
    return statistics.median(turn[key] for turn in turns)
