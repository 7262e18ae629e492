"""Folders of arrays: written once and whole, found by key, verified on loading."""

import hashlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

MANIFEST = "manifest.json"
log = logging.getLogger(__name__)


class Damaged(Exception):
    """An entry that is not as it was written; says which file."""


class Entry(NamedTuple):
    """What one key holds: arrays by name (on loading, mapped from disk), and facts."""

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


def root() -> pathlib.Path:
    """`$STEEPEST_CACHE`, else `~/.cache/steepest`."""
    asked = os.environ.get("STEEPEST_CACHE")
    return pathlib.Path(asked) if asked else pathlib.Path.home() / ".cache" / "steepest"


def fetch(kind: str, key: str, make: Callable[[], Entry]) -> Entry:
    """The entry of a key, made if it is not there; a damaged one is made again.

    Raises:
      ValueError: the cache cannot be written.
    """
    folder = root() / kind / key
    if folder.is_dir():
        try:
            return load(folder)
        except Damaged as damage:
            log.warning("Cache entry %s is damaged (%s): built again.", folder, damage)
    entry = make()
    try:
        save(folder, entry)
    except OSError as error:
        raise ValueError(
            f"The cache {root()} cannot be written ({error.strerror or error}): "
            "set STEEPEST_CACHE to a folder that can."
        ) from error
    return load(folder)


def load(folder: pathlib.Path) -> Entry:
    """An entry, its files held against their checksums.

    Raises:
      Damaged: a file is missing, or not as it was written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        body = manifest["body"]
        if _sum(json.dumps(body, sort_keys=True).encode()) != manifest["sum"]:
            raise Damaged(f"{MANIFEST} has another checksum")
        for name, wanted in body["files"].items():
            with open(folder / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                    raise Damaged(f"{name} has another checksum")
        arrays = {
            pathlib.Path(name).stem: np.load(folder / name, "r", allow_pickle=False)
            for name in body["files"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
    return Entry(arrays, body["facts"])


def save(folder: pathlib.Path, entry: Entry) -> None:
    """Writes beside the place and renames, so that no reader sees half an entry."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        files = {}
        for name, array in entry.arrays.items():
            path = beside / f"{name}.npy"
            with open(path, "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            with open(path, "rb") as file:
                files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        body = {"files": files, "facts": dict(entry.facts)}
        text = json.dumps(body, sort_keys=True)
        with open(beside / MANIFEST, "w") as file:
            json.dump({"body": body, "sum": _sum(text.encode())}, file)
            file.flush()
            os.fsync(file.fileno())
        _put(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sweep(place: pathlib.Path) -> None:
    """Removes what a process that was killed a day ago or longer left half written."""
    for left in [*place.glob(".writing-*"), *place.glob(".damaged-*")]:
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)


def _put(beside: pathlib.Path, folder: pathlib.Path) -> None:
    """To its place, unless another process was first; a damaged entry makes room."""
    try:
        os.rename(beside, folder)
    except OSError:
        if not folder.is_dir():
            raise
        try:
            load(folder)
        except Damaged:
            old = tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent)
            os.replace(folder, old)
            shutil.rmtree(old, ignore_errors=True)
            os.rename(beside, folder)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
