"""The seconds of a run that are training: no compiling, no evaluating."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Counts on from `seconds`, of which a resumed run has some."""

    def __init__(self, seconds: float = 0.0):
        self._before = seconds
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """So far, over all parts of the run."""
        return self._before + time.perf_counter() - self._began

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens inside is not training."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began
