"""What `--workdir=` names, looked at before anything else starts."""

import os
from pathlib import Path

from core.refusal import nearest, shown


def folder(text: str) -> None:
    """Raises ValueError where no folder can be at `--workdir`."""
    try:
        if os.path.isdir(text) or not os.stat(text):
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"--workdir={shown(text)}: {error.strerror}.") from error
    raise ValueError(f"--workdir={shown(text)} is a file, not a folder.")


def run_folder(text: str) -> None:
    """Raises ValueError unless a run is kept in the folder."""
    folder(text)
    if not os.path.isfile(os.path.join(text, "config.json")):
        beside = {str(file.parent) for file in Path(text).parent.glob("*/config.json")}
        raise ValueError(
            f"--workdir={shown(text, 90)} holds no run: there is no config.json."
            f"{nearest(text, beside)}"
        )
