"""A scheduler, or Ctrl-C, asks the run to end: it saves after the step and leaves."""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
    """While entered, the first SIGTERM or SIGINT only asks; the second one kills.

    In a run of several processes `asked` is true in all of them at the same step,
    which the JAX coordination service finds: it has a SIGTERM handler of its own, so
    that one is left in place and SIGINT is passed on to it. Outside the main thread,
    where Python takes no handlers, nobody ever asks.
    """

    def __init__(self):
        self._signalled = False
        self._before = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():
            several = jax.process_count() > 1
            for number in (signal.SIGINT,) if several else SIGNALS:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: the handler was not installed from Python, and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def asked(self, step: int) -> bool:
        """Whether to save and end after `step`. To be called once after every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._signalled

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        name = signal.Signals(number).name
        # Not print: the handler may have interrupted one that holds the stream.
        os.write(2, f"{name}: saving, then ending. Once more ends at once.\n".encode())
