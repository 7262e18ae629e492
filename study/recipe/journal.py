"""What a search has done in its folder so far, what it took, and so what is left.

What has ended stands: the journal that goes on in a folder is as if it had never been
left.
"""

import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from core.settings import dump, load
from core.types import Config
from study import outcomes, sweep
from study.outcomes import DONE, Outcome
from study.recipe.budget import Cost, num_rounds, told
from study.recipe.plan import PLAN, Plan, programs, read, write
from study.search.wanted import Search
from train.logs import read_json, read_metrics, write_bytes, write_json

RECORD = "asked.json"


class Spent(NamedTuple):
    """The seconds of a stage, those of compiling, its programs and its rounds.

    A trial that diverged is as much of one as it has had steps.
    """

    seconds: float
    compile_seconds: float
    num_programs: int
    num_rounds: float


class Journal:
    """The stages of a search, one after the other, each in a folder of its own.

    Raises:
      ValueError: the folder holds another search.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        config: Config,
        budget_seconds: int,
        command: Sequence[str],
        say: Callable[[str], None],
    ):
        self.folder, self.budget_seconds = folder, budget_seconds
        self._command, self._say = command, say
        self.spent: list[Spent] = []
        self.num_devices = len(jax.devices())
        self._number = 0
        self._record = {"format": 1, "config": config}
        self._enter(self._record | {"budget_seconds": budget_seconds})

    def accept(self) -> None:
        """Notes that the budget is enough: from here on it stands."""
        self._write(self._record | {"budget_seconds": self.budget_seconds})

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return sum(spent.seconds for spent in self.spent)

    @property
    def left_seconds(self) -> float:
        """Of the budget."""
        return self.budget_seconds - self.seconds

    @property
    def cost(self) -> Cost:
        """Of what follows: the longest compile so far, the rounds of the last stage."""
        last = self.spent[-1]
        return Cost(
            max(spent.compile_seconds / spent.num_programs for spent in self.spent),
            (last.seconds - last.compile_seconds) / last.num_rounds,
            self.num_devices,
        )

    def place(self, name: str) -> pathlib.Path:
        """The folder of the stage that comes next."""
        return self.folder / f"{self._number}-{name}"

    def skip(self, plan: Plan) -> None:
        """Leaves the stage that comes next out."""
        folder = self.place(plan.name)
        if not (folder / PLAN).is_file():
            write(folder, plan)
            self._say(f"{folder.name}: left out, {plan.left_out[0]}.")
        self._number += 1

    def carry_out(
        self, plan: Plan, configs: Mapping[str, Config]
    ) -> dict[str, list[Outcome]]:
        """Runs the plan over each config, which has a folder there; or finds it done.

        Raises:
          Stop: asked to leave, or the disk is full; the same call goes on.
        """
        folder = self.place(plan.name)
        noted = folder / "spent.json"
        if not noted.is_file():
            write(folder, plan)
            self._announce(folder.name, plan, len(configs))
            before, began = _seconds_in(folder), time.monotonic()
            for name, config in configs.items():
                sweep.run(
                    config,
                    plan.stated,
                    folder / name,
                    search=Search(),
                    command=self._command,
                )
            seconds = before + time.monotonic() - began
            found = {name: outcomes.read(folder / name) for name in configs}
            spent = _measured(seconds, plan, configs, found, self.num_devices)
            write_json(noted, spent._asdict())
        self.spent.append(Spent(**read_json(noted)))
        self._number += 1
        return {name: outcomes.read(folder / name) for name in configs}

    def planned(self, name: str, plan: Callable[[], Plan]) -> Plan:
        """The plan that was noted before, else a new one."""
        return read(self.place(name)) or plan()

    def _announce(self, name: str, plan: Plan, num_arms: int) -> None:
        settings, seeds = len(plan.settings) * num_arms, len(plan.seeds)
        about = f", about {told(plan.seconds)}" if plan.seconds else ""
        left, whole = told(max(self.left_seconds, 0)), told(self.budget_seconds)
        self._say(
            f"{name}: {plan.why} Trials {settings * seeds} (settings {settings}, seeds "
            f"{seeds}){about}; {left} of {whole} are left."
        )

    def _enter(self, record: Config) -> None:
        path = self.folder / RECORD
        if path.is_file():
            before = load(path)
            for key in before:
                if dump({"": before[key]}) != dump({"": record.get(key)}):
                    raise ValueError(
                        f"{self.folder} holds another recipe: its {key} is another "
                        "one. Take another --workdir."
                    )
            return
        if any(
            (self.folder / name).is_file() for name in ("config.json", "sweep.json")
        ):
            raise ValueError(f"{self.folder} holds a run or a sweep, and no recipe.")
        self._write(self._record)

    def _write(self, record: Config) -> None:
        write_bytes(self.folder / RECORD, dump(record).encode() + b"\n")


def _measured(
    seconds: float,
    plan: Plan,
    configs: Mapping[str, Config],
    found: Mapping[str, Sequence[Outcome]],
    num_devices: int,
) -> Spent:
    """What a stage took, which has ended."""
    sizes, shares = [], []
    for name, config in configs.items():
        sizes += programs(config, [*plan.settings.values()], len(plan.seeds))
        for outcome in found[name]:
            num_steps = outcome.point.overrides.get("num_steps", config["num_steps"])
            done = outcome.state == DONE
            shares.append(1 if done else max(outcome.steps, 1) / num_steps)
    trials = [outcome for some in found.values() for outcome in some]
    compiling = sum(x.summary.get("compile_seconds", 0.0) for x in trials)
    rounds = num_rounds(sizes, num_devices) * float(np.mean(shares))
    return Spent(seconds, min(compiling, seconds), len(sizes), rounds)


def _seconds_in(folder: pathlib.Path) -> float:
    """What the runs under a folder have taken, which is known though it was killed."""
    seconds = 0.0
    for path in folder.rglob("metrics.jsonl"):
        lines = read_metrics(path.parent)
        seconds += lines[-1]["seconds"] if lines else 0.0
    for path in folder.rglob("summary.json"):
        seconds += read_json(path).get("compile_seconds", 0.0)
    return seconds
