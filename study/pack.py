"""Trials of one program, trained together: `train/`'s own loop over many runs.

Each has its own run folder, log and checkpoints, and can go on alone. One that ends
early, diverged or out of patience, gives its place up. Letters as in `train/trials.py`.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from core.exits import PREEMPTED, Stop
from data.batches import in_order
from study.member import Member, Seen, stacked
from train import measure
from train.clock import Clock
from train.evaluated import params_of
from train.folder import Folder
from train.keeper import Enough
from train.loop import Hook, ahead, always, fit, total
from train.memory import free_bytes
from train.preemption import Preemption
from train.progress import Progress
from train.step import Scores, TrainState
from train.trials import Trials, in_turn

AT_ONCE = 256  # batches of validation on the devices at most
STRIDE = 50  # steps at most between two looks of the host: nobody waits long to leave


class Pack:
    """As many of `members` as fit into memory, at the same step of the same program.

    They are of `num_alike` trials. Where a place without a trial costs no time there is
    one for each, so that all packs of them are one program, to the bit.
    """

    def __init__(self, members: Sequence[Member], num_alike: int):
        parts = members[0].parts
        self.parts, self.trials = parts, Trials(parts.program)
        self.program = parts.program
        seeds = sorted({member.seed for member in members})
        self._streams = {
            seed: next(m.parts.batches for m in members if m.seed == seed)
            for seed in seeds
        }
        self._num_devices = parts.mesh.size
        self._compiled_before = self.program.compile_seconds
        self._batch = parts.batches.batch
        self.ends = _ends(members[0])
        self._longest = max(b - a for a, b in itertools.pairwise([0, *self.ends]))
        self.num_places = self._places(num_alike if in_turn() else len(members))
        self.members = list(members[: self.num_places])

    def run(self, command: Sequence[str]) -> None:
        """Trains them all until they have had the steps that they are to have.

        Raises:
          Stop: asked to leave, or the disk is full; all have saved what they could.
          ValueError: the folder of one holds another run, or another process has it.
        """
        beside = measure.beside(
            measure.Measure(**self.parts.config["measure"]),
            self._measured,
            lambda step: stacked(
                [batches.batch(step - 1) for batches in self._streams.values()]
            ),
            pieces=self.parts.config["pieces"],
        )
        with contextlib.ExitStack() as stack:
            preemption = stack.enter_context(Preemption())
            for member in self.members:
                stack.enter_context(member.entered(beside, preemption, command))
            self._beside = beside
            first = self.members[0].first
            noun = f"{len(self.members)} trials: step"
            self._progress = stack.enter_context(
                Progress(self.members[0].until, first, noun=noun)
            )
            self._settle(self.members)
            state_T, self._told = self._first_states(), 0.0
            self._clock = Clock()
            numbers = [number for number in self.ends if number > first]
            strides = ahead(self._strides([first, *numbers]), 1)
            with contextlib.suppress(Enough):
                hooks = [Hook(always, self._look)]
                fit(state_T, self._step, strides, numbers=numbers, hooks=hooks)
            self._finish(self.alive)

    def _settle(self, alive: Sequence[Member]) -> None:
        """Gives the members that are left their places: in front, on each device."""
        each = self.num_places // self._num_devices
        self.alive = list(alive)
        self._place = {
            id(member): number % self._num_devices * each + number // self._num_devices
            for number, member in enumerate(alive)
        }
        at: list[Member] = [self.alive[0]] * self.num_places
        for member in alive:
            at[self._place[id(member)]] = member
        counts = [len(alive[d :: self._num_devices]) for d in range(self._num_devices)]
        streams, trials = [*self._streams], self.trials
        self._fixed = (
            trials.place([np.int32(count) for count in counts]),
            trials.place([np.int32(streams.index(member.seed)) for member in at]),
            trials.keys([member.seed for member in at]),
            trials.place([dict(member.parts.values) for member in at]),
        )

    def _first_states(self) -> TrainState:
        count_D, _, key_T, values_T = self._fixed
        if self.members[0].first:
            found = [member.restore() for member in self.members]
            spread = [found[0]] * self.num_places
            for member, state in zip(self.members, found, strict=True):
                spread[self._place[id(member)]] = state
            return self.trials.place(spread)
        other = self.parts.config["init_from"]
        if not other:
            return self.trials.init(count_D, values_T, key_T)
        shape = self.program.shape(self.parts.values, jax.random.key(0))
        params = params_of(Folder(other), self.parts, shape.params)
        return self.trials.start_at(count_D, values_T, params)

    def _step(self, state_T: TrainState, stride: Any) -> tuple[TrainState, Scores]:
        """So many steps of all; where some have ended, first without them."""
        if any(member.ended for member in self.alive):
            with jax.transfer_guard("allow"), self._clock.stopped():
                state_T = self._without_ended(state_T)
        batch_SK, num_steps = stride
        count_D, stream_T, key_T, values_T = self._fixed
        return self.trials.steps(
            state_T, count_D, batch_SK, stream_T, num_steps, key_T, values_T
        )

    def _without_ended(self, state_T: TrainState) -> TrainState:
        """The states of those that go on, in front; the others get their summaries."""
        before = self._place
        alive = [member for member in self.alive if not member.ended]
        self._finish([member for member in self.alive if member.ended])
        self._shrink(len(alive))
        self._settle(alive)
        places = [0] * self.num_places
        for member in alive:
            places[self._place[id(member)]] = before[id(member)]
        return self.trials.take(state_T, places)

    def _look(self, step: int, state_T: TrainState, scores_T: Scores) -> None:
        """The host's look after a step: every member logs, saves, ends."""
        due = self.alive[0].report.due(step)
        scores, guard = jax.device_get((scores_T, state_T.guard))
        seen = Seen(scores, guard, {}, {})
        now = self._clock.seconds
        share = (now - self._told) / len(self.alive)
        self._told = now
        if due:
            with self._clock.stopped():
                seen = seen._replace(
                    validated=self._validated(step, state_T),
                    beside=jax.device_get(self._beside.call(step, state_T)),
                )
        stops: list[Stop] = []
        with self._clock.stopped():
            for member in self.alive:
                member.tell(step, seen, self._place[id(member)], share)
            for member in self.alive:
                place = self._place[id(member)]
                try:
                    member.keep(step, lambda at=place: self.trials.one(state_T, at))
                except Stop as stop:
                    if stop.code != PREEMPTED:
                        raise
                    stops.append(stop)
        self._show(step, due)
        over = [member for member in self.alive if member.ended]
        if stops:
            self._finish(over)
            raise stops[0]
        if len(over) == len(self.alive):
            raise Enough

    def _show(self, step: int, due: bool) -> None:
        found = [m.report.validated.get("val_loss", math.inf) for m in self.alive]
        best = min((x for x in found if math.isfinite(x)), default=None)
        if due and best is not None:
            self._progress.show(step, {"best_val_loss": best})
        else:
            self._progress.at(step)

    def _finish(self, members: Sequence[Member]) -> None:
        spent = self.program.compile_seconds - self._compiled_before
        for member in members:
            member.finish(spent / len(self.members))

    def _validated(self, step: int, state_T: TrainState) -> Scores:
        """The scores of all on the validation split, if it is time for them."""
        if not self.alive[0].report.validates(step):
            return {}
        count_D, _, key_T, values_T = self._fixed
        rows = self.parts.prepared.rows["validation"]
        batches = [*in_order(rows, batch_size=self.parts.config["batch_size"])]
        size = min(len(batches), AT_ONCE)
        share, found = self.trials.share, []
        for begin in range(0, len(batches), size):
            some = batches[begin : begin + size]
            batch_K = stacked(some + some[-1:] * (size - len(some)))
            number = share(np.int32(len(some)))
            args = (share(batch_K), number, key_T, values_T)
            found.append(self.trials.score(count_D, state_T, *args))
        return jax.device_get(total(found))

    def _measured(self, name: str, function: Any, state_T: Any, batch_S: Any) -> Scores:
        count_D, stream_T, key_T, values_T = self._fixed
        batch_S = self.trials.share(batch_S)
        args = (count_D, state_T, batch_S, stream_T, key_T, values_T)
        return self.trials.measure(name, function, *args)

    def _strides(self, numbers: Sequence[int]) -> Iterator[tuple[PyTree, Any]]:
        """The batches between two looks, of every seed, and how many they are."""
        for begin, end in itertools.pairwise(numbers):
            batch_SK = stacked(
                [
                    stacked([batches.batch(n) for n in self._padded(begin, end)])
                    for batches in self._streams.values()
                ]
            )
            yield self.trials.share(batch_SK), self.trials.share(np.int32(end - begin))

    def _padded(self, begin: int, end: int) -> list[int]:
        """The numbers of a stride's batches; what is behind its end is not read."""
        numbers = [*range(begin, end)]
        return numbers + numbers[-1:] * (self._longest - len(numbers))

    def _shrink(self, num_alive: int) -> None:
        """Leaves places out where half are empty and all cost time."""
        if not in_turn() and num_alive <= self.num_places // 2:
            self.num_places = self._places(num_alive)

    def _places(self, wanted: int) -> int:
        """As many as fit into memory, which the compiled steps tell."""
        number = self._rounded(wanted)
        while self.trials.memory_bytes(*self._shapes(number)) > free_bytes():
            if number == self._num_devices:
                break  # less are not possible; it may be enough
            number = self._rounded(number // 2)
        return number

    def _rounded(self, number: int) -> int:
        return -(-number // self._num_devices) * self._num_devices

    def _shapes(self, num_places: int) -> tuple:
        """The shapes of what `Trials.steps` takes, for so many places."""
        values = dict(self.parts.values)
        state = self.program.shape(values, jax.random.key(0))
        batch = stacked([self._batch(0)])

        def many(leaf: Any) -> jax.ShapeDtypeStruct:
            return self.trials.shape((num_places, *leaf.shape), leaf.dtype)

        def read(leaf: Any) -> jax.ShapeDtypeStruct:
            size = (len(self._streams), self._longest, *leaf.shape[1:])
            return self.trials.shape(size, leaf.dtype, common=True)

        key = jax.random.key(0)
        number = np.int32(0)
        return (
            jax.tree.map(many, state),
            self.trials.shape((self._num_devices,), np.int32),
            jax.tree.map(read, batch),
            many(number),
            self.trials.shape((), np.int32, common=True),
            many(key),
            jax.tree.map(many, values),
        )


def _ends(member: Member) -> list[int]:
    """The steps after which the host looks, from the first of the run on."""
    parts, until = member.parts, member.until
    log, evaluate = parts.config["log_every"], parts.config["evaluate"]["every_steps"]
    sharp = parts.config["measure"]["sharpness_every"]
    save = parts.config["checkpoint"]["every_steps"]
    phases = {phase.until for phase in parts.batches.phases}
    found, last = [], 0
    for step in range(1, until + 1):
        if (
            any(every and step % every == 0 for every in (log, evaluate, save, sharp))
            or step in phases
            or step == until
            or step - last == STRIDE
        ):
            found.append(step)
            last = step
    return found
