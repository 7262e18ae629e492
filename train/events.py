"""TensorBoard's copy of a run's numbers."""

import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

# protobuf makes these when it is imported, where no type checker sees them.
EVENT: Any = event_pb2
SUMMARY: Any = summary_pb2

FLUSH_SECONDS = 10.0


class Events:
    """One `events.out.tfevents.*` file in a run folder.

    With a `purge_step`, TensorBoard drops what earlier files say of it and later steps.
    tensorboardX's `SummaryWriter` would write from a thread; where the disk is full
    that dies, and the next call waits for it for ever. Here the caller gets the error.
    """

    def __init__(self, folder: str | os.PathLike, purge_step: int | None = None):
        # Files are named by the second; the suffix keeps a quick resume apart.
        self._writer = EventsWriter(
            str(pathlib.Path(folder) / "events"), f".{purge_step or 0}"
        )
        if purge_step is not None:
            start = EVENT.SessionLog(status=EVENT.SessionLog.START)
            self._add(EVENT.Event(step=purge_step, session_log=start))
        self.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the finite ones among the values of a step."""
        scalars = [
            SUMMARY.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self._add(EVENT.Event(step=step, summary=SUMMARY.Summary(value=scalars)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Returns when all that was written is on the disk."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes, and ends the file."""
        self._writer.close()

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
