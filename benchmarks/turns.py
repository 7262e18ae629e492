"""Contestants as processes that live through the race and work only in their turns.

A request and its answer are each one line of JSON, on stdin and stdout. A worker
imports this file under its own Python: it needs nothing but the standard library.
"""

import json
import os
import pathlib
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

TIMEOUT_SECONDS = 900

# What would change the threads or the instructions that a library chooses by itself.
STEERING = ("ATEN_", "DNNL_", "GOMP_", "KMP_", "LD_PRELOAD", "MKL_", "OMP_", "XLA_")
ON_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Contestant(Protocol):
    """A model in training."""

    def step(self) -> Any:
        """Trains on the next batch; its loss, which may still be on its way."""

    def wait(self, loss: Any) -> float:
        """That loss as a number, once all that was begun is done."""

    def multiply(self) -> None:
        """One product of two square float32 matrices, to its end."""

    def facts(self) -> dict[str, Any]:
        """What the report says of it."""


def serve(make: Callable[..., Contestant]) -> None:
    """The worker's side: builds from the settings in argv, then answers until EOF.

    Whatever a library prints goes to stderr, for stdout carries the answers.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contestant = make(**json.loads(sys.argv[1]))

    def answer(facts: dict[str, Any]) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    answer({"first_loss": contestant.wait(contestant.step())})
    for line in sys.stdin:
        request = json.loads(line)
        match request["do"]:
            case "train":
                answer(_train(contestant, request["num_steps"]))
            case "multiply":
                answer({"seconds": _fastest(contestant.multiply)})
            case "facts":
                answer(contestant.facts() | {"peak_rss_bytes": _peak_rss_bytes()})


def _train(contestant: Contestant, num_steps: int) -> dict[str, float]:
    """Times `num_steps` steps after one that only fills the caches."""
    contestant.wait(contestant.step())
    began, cpu_began = time.perf_counter(), time.process_time()
    for _ in range(num_steps):
        loss = contestant.step()
    return {
        "loss": contestant.wait(loss),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
    }


def _fastest(function: Callable[[], None], times: int = 6) -> float:
    """The seconds of the fastest call."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return min(found)


def _peak_rss_bytes() -> int:
    """Of this process alone: `ru_maxrss` begins at what the parent had."""
    try:
        status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = (x for x in status.splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Worker:
    """The race's side of one contestant.

    Raises:
      RuntimeError: the worker ended, or did not answer; with the last line it wrote.
    """

    def __init__(self, name: str, command: Sequence[str], settings: Mapping[str, Any]):
        self.name = name
        kept = {k: v for k, v in os.environ.items() if not k.startswith(STEERING)}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  `close` closes it
        self._process = subprocess.Popen(
            [*command, json.dumps(dict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=kept | ON_CPU | {"PYTHONPATH": str(ROOT)},
        )
        try:
            self.first_loss = self._answer()["first_loss"]
        except BaseException:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """What it answers; nobody else works meanwhile."""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer tells why
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        ready, _, _ = select.select([stdout], [], [], TIMEOUT_SECONDS)
        line = stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        why = said[-1] if said else "it said nothing"
        what = "ended" if ready else f"did not answer in {TIMEOUT_SECONDS} s"
        raise RuntimeError(f"{self.name} {what}: {why}")
