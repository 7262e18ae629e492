"""How far a run is, for who watches it: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

# What a log line shows if the step's values have it, in this order.
SHOWN: dict[str, Callable[[float], str]] = {
    "loss": lambda x: f"loss {x:.3f}",
    "val_loss": lambda x: f"val_loss {x:.3f}",
    "best_val_loss": lambda x: f"best val_loss {x:.3f}",
    "rate": lambda x: f"rate {x:.1e}",
    "tokens_per_second": lambda x: f"{x:,.0f} tokens/s",
    "skipped": lambda x: f"{x:.0f} skipped" if x else "",
}


class Progress:
    """Shows steps `start_step + 1` to `total_steps`, or whatever else `noun` counts.

    `at` moves the bar and costs next to nothing: call it every step. `show` takes what
    was logged of a step, as numbers on the host. The clock of the time left starts at
    the first `at`, so compiling does not count.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        *,
        noun: str = "step",
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total_steps = total_steps
        self._noun = noun
        self._step = start_step
        self._clock = clock
        self._started: tuple[int, float] | None = None
        self._said: dict[str, float] = {}
        self._stream = stream = file or sys.stdout
        # By the stream alone: a wish for colour in the environment is no terminal.
        self._plain = not stream.isatty()
        self._console = Console(
            file=stream, force_terminal=not self._plain, highlight=False
        )
        self._bar = Bar(
            TextColumn(noun + " {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=self._plain,
            expand=True,
        )
        self._task = self._bar.add_task(
            "", total=total_steps, completed=start_step, left=""
        )

    def at(self, step: int) -> None:
        """The run has come to `step`."""
        self._step = step
        if self._started is None:
            self._started = step, self._clock()
        self._bar.update(self._task, completed=step, left=self._left())

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """A log step: its line, or the numbers beside the bar."""
        self.at(step)
        if self._plain:
            head = f"{self._noun} {step}/{self.total_steps}"
            parts = [head, *_words(values), self._left()]
            line = "  ".join(part for part in parts if part)
            print(line, file=self._stream, flush=True)
        else:
            # A validation loss stays beside the bar until there is a newer one.
            self._said |= values
            text = "  ".join(_words(self._said))
            self._bar.update(self._task, description=text, refresh=True)

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        self._console.print(line, markup=False, soft_wrap=True)

    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        if self._started is None or self._step == self._started[0]:
            return None
        first, start = self._started
        pace = (self._clock() - start) / (self._step - first)
        return pace * (self.total_steps - self._step)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def _left(self) -> str:
        left = self.seconds_left()
        return "" if left is None else f"{clock_time(left)} left"


def _words(values: Mapping[str, float]) -> list[str]:
    words = (form(values[name]) for name, form in SHOWN.items() if name in values)
    return [word for word in words if word]


def clock_time(seconds: float) -> str:
    """Minutes and seconds, and hours where there are some.

    >>> clock_time(83.4), clock_time(7384), clock_time(0)
    ('1:23', '2:03:04', '0:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
