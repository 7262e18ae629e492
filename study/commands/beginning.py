"""How a command over many runs begins: its devices, and whose its mistakes are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Functions of a run that has begun: an error in them is no longer the user's.
RUNNING = ("train.loop.fit", "study.member.finish")


def spread_over_cores() -> None:
    """Makes each core a device, where the devices are a CPU's."""
    from train.trials import spread_over_cores

    spread_over_cores()
