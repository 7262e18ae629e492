"""A trace of some steps, for a profiler's viewer."""

import pathlib

import jax

from train.loop import Hook

SKIPPED, TRACED = 5, 5  # steps: before the trace, which are slower, and in it


def trace_hook(folder: pathlib.Path, first: int) -> Hook:
    """Traces a few steps of a run that starts after `first` into `folder`."""
    begin, end = first + SKIPPED, first + SKIPPED + TRACED

    def call(step, state, scores):
        del state
        jax.block_until_ready(scores)
        if step == begin:
            jax.profiler.start_trace(folder)
        else:
            jax.profiler.stop_trace()

    return Hook(lambda step: step in (begin, end), call)
