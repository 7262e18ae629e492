"""What `--config=` names: an experiment's file under its options, or a run's config."""

import os
import runpy
import traceback
from pathlib import Path
from typing import Any

from core.refusal import listed, nearest, short, shown


def stated(text: str, root: Path) -> dict[str, Any]:
    """What `--config=` names: an experiment's config under its options, or a run's.

    Raises:
      ValueError: no such file, or one that makes no config.
    """
    path, colon, options = text.partition(":")
    known = [
        f"experiments/{file.name}"
        for file in sorted((root / "experiments").glob("*.py"))
        if "def get_config(" in file.read_text(encoding="utf-8")
    ]
    where = f"--config={short(path, 100)}"
    if os.path.isdir(path):
        raise ValueError(
            f"{where} is a folder; name a file, such as {path}/config.json."
        )
    if not os.path.isfile(path):
        raise ValueError(
            f"{where} is not there.{nearest(path, known)} Known: {listed(known)}."
        )
    if colon and not options:
        raise ValueError(f"{where}: has no options behind its colon.")
    if path.endswith(".json"):
        if colon:
            raise ValueError(f"{where} takes no options, and has {shown(options)}.")
        from core.settings import load  # brings JAX, which takes a second

        return load(path)
    if not path.endswith(".py"):
        raise ValueError(
            f"{where} must be a .py or .json file. Known: {listed(known)}."
        )
    if not Path(path).resolve().is_relative_to(root):
        raise ValueError(f"{where} lies outside {root}; copy it to experiments/.")
    return _experiment(path, options)


def space(text: str) -> Any:
    """What `sweep()` of the experiment returns that `--config=` names.

    `stated` has found the file to be one.

    Raises:
      ValueError: it has none.
    """
    path = text.partition(":")[0]
    if not path.endswith(".py"):
        raise ValueError(
            f"--config={short(path, 100)} has no sweep(); name an experiment's file."
        )
    return _called(path, "sweep", "has no sweep(), so there is nothing to search.")


def _experiment(path: str, options: str) -> dict[str, Any]:
    """The config that an experiment's file makes."""
    lacking = "has no get_config(options), so it is no experiment."
    config = _called(path, "get_config", lacking, options)
    return config if isinstance(config, dict) else config.to_dict()


def _called(path: str, name: str, lacking: str, *args: str) -> Any:
    """Runs an experiment's file; what it raises is one line with its place."""
    try:
        names = runpy.run_path(path)
        if name not in names:
            raise ValueError(lacking)
        return names[name](*args)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}.") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        place = f"{path}, line {lines[-1]}" if lines else path
        raise ValueError(f"{place}: {type(error).__name__}: {error}") from error
