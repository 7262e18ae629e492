"""The results of `optimizers.py` as Markdown."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optimizers_problem as problem

CHEAP = 1.05  # of a step with AdamW: what is called as fast

HEAD = """# What optimizers cost

Written by `benchmarks/optimizers.py`; do not edit.

* Date: {date}. Commit: {commit}{dirty}. It took {minutes:.0f} minutes.
* Command: `{command}`
* Machine: {model} ({vectors}), {cores} cores. Load average before: {load:.2f}{noise}.
* {versions}

All move the {parameters:,} parameters of one decoder: {layers} scanned layers of width
{width}, MLP {mlp}, vocabulary {vocab}, tied, float32. An update is the chain and the
addition to the parameters, compiled as one, parameters and state given away as in
training; the gradients lie there already, those of {batches} batches in turn. A turn is
one update that is not timed and {steps} that are, a whole number of periods of a rule
that does something every few steps. Brackets hold the least and the greatest ratio of
{rounds} rounds: the true median lies between them with probability {sure:.1%} if rounds
are independent.

## What it says

{says}

## Every rule beside AdamW

Each row raced AdamW by itself, in turns, so a ratio is of one moment. All have their
defaults and decoupled decay {decay}. "Step" adds forward and backward of {rows} x
{length} tokens, measured apart: {passes:.0f} ms ({fastest:.0f} to {slowest:.0f}); it is
that and the rule's update over that and AdamW's. What a rule computes beside the update
(a second gradient, say) is in its time. `adamw` is AdamW against itself: the noise.

| | ms an update | over AdamW's | step over AdamW's | state, bytes a parameter |
|---|---|---|---|---|
{rows_table}
"""

RIVALS = """
## Beside pytorch-optimizer

{versions}. The same tensors, those of each layer on their own there, the same
gradients and numbers, no decay, {cores} threads, eager as it comes;
`optimizers_torch.py` says how equal the work is. "Moved" is how far the first hidden
matrix is from its start after {first} updates, by which one sees what both compute.

| ours | theirs | ours, ms | theirs, ms | ours over theirs | moved, ours | theirs |
|---|---|---|---|---|---|---|
{table}
"""


def render(found: Mapping[str, Any]) -> str:
    """The page; `found` is what `optimizers.measure` returns, and some facts."""
    facts, passes, rounds = found["facts"], found["passes"], found["rounds"]
    cores, rivals = facts["cores"], found["rivals"]
    text = HEAD.format(
        **{
            name: found[name]
            for name in ("date", "minutes", "steps", "load", "command")
        },
        rounds=rounds,
        commit=facts["commit"],
        dirty=", with changes that are not committed" if facts["dirty"] else "",
        model=found["cpu"]["model"],
        vectors=found["cpu"]["vectors"],
        cores=cores,
        noise=": NOT a quiet machine" if found["load"] > cores / 4 else "",
        versions=_versions(facts["versions"]),
        parameters=facts["parameters"],
        layers=problem.NUM_LAYERS,
        width=problem.WIDTH,
        mlp=problem.MLP_WIDTH,
        vocab=problem.VOCAB,
        batches=problem.NUM_BATCHES,
        sure=1 - 2.0 ** (1 - rounds),
        says="\n".join(_says(found)),
        decay=problem.DECAY,
        rows=problem.NUM_ROWS,
        length=problem.LENGTH,
        passes=statistics.median(passes) * 1e3,
        fastest=min(passes) * 1e3,
        slowest=max(passes) * 1e3,
        rows_table="\n".join(_rows(found)),
    )
    if not rivals:
        return text + "\n## Beside pytorch-optimizer\n\nNot run.\n"
    return text + RIVALS.format(
        versions=_versions(next(iter(rivals.values()))["versions"]),
        cores=cores,
        first=problem.FIRST_STEPS,
        table="\n".join(_rivals(rivals)),
    )


def _says(found: Mapping[str, Any]) -> Iterator[str]:
    """The numbers in words."""
    rows = found["rows"]
    steps = {name: statistics.median(_steps(found, name)) for name in rows}
    cheap = [name for name, ratio in steps.items() if ratio <= CHEAP]
    dear = sorted(set(rows) - set(cheap), key=steps.__getitem__)
    yield (
        f"* Of {len(rows)} rows, {len(cheap)} make a step at most {CHEAP - 1:.0%} "
        f"longer than AdamW's, as these do not: "
        f"{', '.join(f'{name} ({steps[name]:.2f})' for name in dear) or 'none'}."
    )
    size = found["facts"]["parameters"]
    bytes_of = {name: row["state_bytes"] / size for name, row in rows.items()}
    small = [name for name, of in bytes_of.items() if of < 7.95]
    large = [name for name, of in bytes_of.items() if of > 8.05]
    yield (
        f"* AdamW's state is 8 bytes a parameter. Less: {', '.join(small) or 'none'}. "
        f"More: {', '.join(large) or 'none'}."
    )
    for name, one in found["rivals"].items():
        for our, their in _pairs(one):
            ratios = _ratios(one["turns"][our], one["turns"][their])
            middle = statistics.median(ratios)
            verdict = "slower" if middle > 1 else "not slower"
            label = name + our.removeprefix("ours")
            yield f"* {label}: {verdict} than {their}, {middle:.2f} of its time."


def _rows(found: Mapping[str, Any]) -> Iterator[str]:
    size = found["facts"]["parameters"]
    for name, row in found["rows"].items():
        often = f", every {row['period']}" if row["period"] > 1 else ""
        yield (
            f"| {name}{often} | {statistics.median(row['other']) * 1e3:,.1f} "
            f"| {_shown(_ratios(row['other'], row['adamw']))} "
            f"| {_shown(_steps(found, name), 3)} "
            f"| {row['state_bytes'] / size:.2f} |"
        )


def _rivals(rivals: Mapping[str, Any]) -> Iterator[str]:
    for name, one in rivals.items():
        for our, their in _pairs(one):
            ours, theirs = one["turns"][our], one["turns"][their]
            moved = one["moved"]
            yield (
                f"| {name}{our.removeprefix('ours')} | {their} "
                f"| {statistics.median(ours) * 1e3:,.1f} "
                f"| {statistics.median(theirs) * 1e3:,.1f} "
                f"| {_shown(_ratios(ours, theirs))} "
                f"| {moved[our]:.5f} | {moved[their]:.5f} |"
            )


def _pairs(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each of ours with each of theirs."""
    ours = [which for which in one["turns"] if which.startswith("ours")]
    theirs = [which for which in one["turns"] if which not in ours]
    return [(our, their) for our in ours for their in theirs]


def _steps(found: Mapping[str, Any], name: str) -> list[float]:
    """Whole steps with a rule over those with AdamW, by round."""
    passes, row = statistics.median(found["passes"]), found["rows"][name]
    return _ratios(
        [passes + seconds for seconds in row["other"]],
        [passes + seconds for seconds in row["adamw"]],
    )


def _ratios(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(some, others, strict=True)]


def _shown(ratios: Sequence[float], places: int = 2) -> str:
    """The median, and the ends.

    >>> _shown([1.0, 1.2, 1.1])
    '1.10 (1.00 to 1.20)'
    """
    of = statistics.median(ratios), min(ratios), max(ratios)
    middle, least, greatest = (f"{ratio:.{places}f}" for ratio in of)
    return f"{middle} ({least} to {greatest})"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
