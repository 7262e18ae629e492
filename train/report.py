"""What a run tells while it goes on: scores, validation, pace, trouble."""

from collections.abc import Callable, Mapping
from typing import Protocol

import jax

from core.exits import NUMERICS, Stop
from train.clock import Clock
from train.guard import Guard
from train.logs import Metrics
from train.measure import NOTHING, Beside
from train.progress import clock_time
from train.step import Scores, TrainState


class Watched(Protocol):
    """What a report needs of a `Progress`."""

    def at(self, step: int) -> None:
        """The run has come to a step."""

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """What was logged of a step."""

    def say(self, line: str) -> None:
        """A line of its own."""


class Report:
    """A hook: fetches the scores of a step, validates if it is time to, and tells.

    `validated` are the last scores on validation and `validated_step` is their step.
    """

    def __init__(
        self,
        metrics: Metrics,
        progress: Watched,
        clock: Clock,
        judge: Guard,
        *,
        tokens_after: Callable[[int], int],
        validate: Callable[[TrainState], Scores],
        memory_bytes: Callable[[], int],
        log_every: int,
        evaluate_every: int,
        num_steps: int,
        beside: Beside = NOTHING,
    ):
        self._metrics, self._progress, self._clock = metrics, progress, clock
        self._judge, self._tokens_after = judge, tokens_after
        self._validate, self._memory_bytes = validate, memory_bytes
        self._log_every, self._evaluate_every = log_every, evaluate_every
        self._num_steps, self._beside = num_steps, beside
        self.validated: dict[str, float] = {}
        self.validated_step = -1
        self._mark: tuple[int, float] | None = None
        self._steps_seen = 0

    def due(self, step: int) -> bool:
        """Whether this step has a line."""
        return (
            step % self._log_every == 0
            or step == self._num_steps
            or self.validates(step)
            or self._beside.due(step)
        )

    def tick(self, step: int, state: TrainState, scores: Scores) -> None:
        """After every step: moves the bar; early on, says what the run will cost."""
        del state
        self._progress.at(step)
        self._steps_seen += 1
        if self._steps_seen == 1:
            self._mark = (step, self._clock.seconds)
        if self._steps_seen == 10:
            jax.block_until_ready(scores)
            self._say_cost(step)

    def __call__(self, step: int, state: TrainState, scores: Scores) -> None:
        values = _numbers(scores)
        seconds = self._clock.seconds
        tokens = self._tokens_after(step)
        values |= {"tokens": tokens, "seconds": seconds}
        if self._mark is not None and self._mark[0] < step:
            since, then = self._mark
            new = tokens - self._tokens_after(since)
            values["tokens_per_second"] = new / (seconds - then)
        with self._clock.stopped():
            values |= _numbers(self._beside.call(step, state))
        if self.validates(step):
            with self._clock.stopped():
                validated = _numbers(self._validate(state))
            self.validated = {f"val_{k}": v for k, v in validated.items()}
            self.validated_step = step
            values |= self.validated
        self._mark = (step, self._clock.seconds)
        self._metrics.write(step, values)
        self._progress.show(step, values)
        trouble = self._judge.trouble(jax.device_get(state.guard))
        if trouble is not None:
            raise Stop(NUMERICS, trouble)

    def validates(self, step: int) -> bool:
        """Whether validation follows this step."""
        every = self._evaluate_every
        return step == self._num_steps or (every > 0 and step % every == 0)

    def _say_cost(self, step: int) -> None:
        assert self._mark is not None
        since, then = self._mark
        pace = (self._clock.seconds - then) / (step - since)
        left = clock_time(pace * (self._num_steps - step))
        megabytes = self._memory_bytes() / 1e6
        self._progress.say(
            f"{1e3 * pace:.0f} ms a step: {left} for the {self._num_steps - step:,} "
            f"steps left; the step needs {megabytes:,.0f} MB on each device."
        )


def _numbers(scores: Scores) -> dict[str, float]:
    """The means, on the host; one without weight is NaN."""
    fetched: Scores = jax.device_get(scores)
    return {
        name: float(mean.total) / float(mean.weight) if mean.weight else float("nan")
        for name, mean in fetched.items()
    }
