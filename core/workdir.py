"""What `--workdir=` and its like name, looked at before anything else starts."""

import os
from pathlib import Path

from core.refusal import nearest, shown


def folder(text: str, flag: str = "--workdir") -> None:
    """Raises ValueError where no folder can be at what the flag names."""
    try:
        if os.path.isdir(text) or not os.stat(text):
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{flag}={shown(text)}: {error.strerror}.") from error
    raise ValueError(f"{flag}={shown(text)} is a file, not a folder.")


def run_folder(text: str, flag: str = "--workdir") -> None:
    """Raises ValueError unless a run is kept in the folder."""
    folder(text, flag)
    if not os.path.isfile(os.path.join(text, "config.json")):
        beside = {str(file.parent) for file in Path(text).parent.glob("*/config.json")}
        raise ValueError(
            f"{flag}={shown(text, 90)} holds no run: there is no config.json."
            f"{nearest(text, beside)}"
        )
