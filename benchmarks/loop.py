"""How much of a step's time the host takes: the loop against the bare step.

    python benchmarks/loop.py [--config=experiments/localize.py] [--rounds=5]

In turns, so that a noisy machine meets both alike: the compiled step on a batch that is
on the device already, and the same number of steps as a run makes them, with batches
read from the memory map, sent ahead, and the hooks of every step.
"""

import argparse
import statistics
import tempfile
import time

import jax

from core.overrides import resolve
from launch import load
from train.assemble import assemble, inputs_of, placed_batches
from train.clock import Clock
from train.guard import Guard
from train.logs import Metrics
from train.loop import Hook, ahead, always, fit
from train.progress import Progress
from train.report import Report
from train.schema import SCHEMA

STEPS = 20


def main() -> None:
    """Prints both times a step and the share that is the host's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="experiments/localize.py")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config, _ = resolve(load(options.config), {}, SCHEMA)
    parts = assemble(config)
    inputs = inputs_of(parts)
    state = parts.program.init(inputs.values, inputs.key)
    compiled = parts.program.compile_step(state, *inputs)

    def step(state, batch):
        return compiled(state, batch, inputs.key, inputs.values)

    shares = []
    with tempfile.TemporaryDirectory() as folder, Metrics(folder) as metrics:
        for number in range(options.rounds + 1):
            began = time.perf_counter()
            for _ in range(STEPS):
                state, scores = step(state, inputs.batch)
            jax.block_until_ready(scores)
            bare = time.perf_counter() - began

            first = int(state.step)
            report = _report(metrics, parts, first + STEPS)
            hooks = [Hook(always, report.tick), Hook(report.due, report)]
            began = time.perf_counter()
            until = parts._replace(num_steps=first + STEPS)
            batches = ahead(placed_batches(until, first), 2)
            numbers = range(first + 1, first + STEPS + 1)
            state = fit(state, step, batches, numbers=numbers, hooks=hooks)
            whole = time.perf_counter() - began
            if number:  # the first round warms up
                shares.append(1 - bare / whole)
                print(
                    f"bare {1e3 * bare / STEPS:.1f} ms a step, "
                    f"loop {1e3 * whole / STEPS:.1f} ms, host {shares[-1]:.2%}"
                )
    share = statistics.median(shares)
    print(f"host share, median of {len(shares)} rounds: {share:.2%}")


def _report(metrics, parts, last):
    """The hook of a run that logs at its last step and validates nothing.

    Nor does it ask the compiler for the memory, which a run does once.
    """
    return Report(
        metrics,
        Progress(last, last - STEPS),
        Clock(),
        Guard(),
        tokens_after=parts.batches.tokens_before,
        validate=lambda state: {},
        memory_bytes=lambda: 0,
        log_every=STEPS,
        evaluate_every=0,
        num_steps=last,
    )


if __name__ == "__main__":
    main()
