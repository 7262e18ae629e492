"""The folder of a run: what is where, and the same run found in it again."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from core import settings
from core.types import Config
from train import fingerprint
from train.logs import read_json, write_bytes, write_json
from train.provenance import provenance


class Folder:
    """Paths of one run; nothing is made or read before it is asked for."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.provenance = self.path / "provenance.json"
        self.tokenizer = self.path / "tokenizer.model"
        self.checkpoints = self.path / "checkpoints"
        self.predictions = self.path / "predictions"
        self.summary = self.path / "summary.json"
        self.trace = self.path / "profile"

    def read_config(self) -> Config:
        """The resolved config.

        Raises:
          FileNotFoundError: the folder holds no run.
        """
        if not self.config.is_file():
            raise FileNotFoundError(f"{self.path} holds no run: no {self.config.name}.")
        return settings.load(self.config)

    def read_tokenizer(self) -> bytes | None:
        """The run's own tokenizer; None before there is one."""
        return self.tokenizer.read_bytes() if self.tokenizer.is_file() else None

    def read_summary(self) -> dict[str, Any]:
        """What is known of the run's result so far."""
        return read_json(self.summary) if self.summary.is_file() else {}

    def enter(
        self,
        config: Config,
        facts: fingerprint.Fingerprint,
        *,
        tokenizer: bytes,
        allow_drift: Sequence[str],
        command: Sequence[str],
    ) -> list[str]:
        """Begins the run here, or goes on with it; returns the drifts that are allowed.

        Raises:
          ValueError: the run here is another one; then nothing is touched.
        """
        record: dict[str, Any] = {"launches": []}
        drifts: list[str] = []
        if self.provenance.is_file():
            record = read_json(self.provenance)
            drifts = fingerprint.compare(record["fingerprint"], facts, allow_drift)
        elif allow_drift:
            raise ValueError(
                f"--allow-drift={allow_drift[0]}: {self.path} holds no run yet."
            )
        record["fingerprint"] = facts
        record["launches"].append({**provenance(command), "drifts": drifts})
        write_bytes(self.tokenizer, tokenizer)
        write_bytes(self.config, settings.dump(config).encode() + b"\n")
        write_json(self.provenance, record)
        return drifts


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Makes the folder and holds it: two processes never train in one.

    The system lets go of the lock however the process ends.

    Raises:
      ValueError: another process trains there.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"Another process is training in {path}.") from None
        yield
