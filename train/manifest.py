"""What the folder of one checkpoint must hold, to the byte.

Array files carry no checksum that a flipped bit in their data would break, and not
every file is flushed by the library that writes it. So once the files are there, all
are flushed and digested, and the manifest that says so is put in place last, by a
rename. A folder without a whole manifest is no checkpoint.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

NAME = "manifest.json"
FORMAT = 1

Manifest = dict[str, Any]


class Damaged(Exception):
    """A folder differs from its manifest; the text is "file: what is wrong"."""


def seal(folder: pathlib.Path, **facts: Any) -> Manifest:
    """Flushes all that `folder` holds, then lists it together with `facts`.

    When this returns, the folder survives a loss of power; before, it is not listed.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        flush(path)
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = {
                "bytes": path.stat().st_size,
                "digest": _digest(path),
            }
    manifest = {"format": FORMAT, **facts, "files": files}
    manifest["digest"] = _digest_of(manifest)

    draft = folder / f"{NAME}.tmp"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    flush(folder)
    flush(folder.parent)
    os.replace(draft, folder / NAME)
    flush(folder)
    return manifest


def read(folder: pathlib.Path) -> Manifest:
    """The manifest of `folder`, after all checks that need no reading of the files.

    Raises:
      Damaged: it is missing or garbled, or a file is not there or of another size.
    """
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(f"{NAME}: {_reason(error)}") from None
    try:
        manifest = json.loads(text)
        digest = manifest.pop("digest")
        whole = digest == _digest_of(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged(f"{NAME}: not readable") from None
    if not whole:
        raise Damaged(f"{NAME}: its digest differs")
    if manifest["format"] != FORMAT:
        raise Damaged(f"{NAME}: format {manifest['format']}, known is {FORMAT}")
    for name, file in manifest["files"].items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise Damaged(f"{name}: {_reason(error)}") from None
        if size != file["bytes"]:
            raise Damaged(f"{name}: {size} bytes, not {file['bytes']}")
    return manifest


def verify(folder: pathlib.Path) -> Manifest:
    """As `read`, and every byte of every file is held against its digest.

    Raises:
      Damaged: names the first file that is not what was written.
    """
    manifest = read(folder)
    for name, file in manifest["files"].items():
        try:
            digest = _digest(folder / name)
        except OSError as error:
            raise Damaged(f"{name}: {_reason(error)}") from None
        if digest != file["digest"]:
            raise Damaged(f"{name}: its digest differs")
    return manifest


def flush(path: pathlib.Path) -> None:
    """Forces a file, or the names in a folder, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _digest_of(manifest: Manifest) -> str:
    text = json.dumps(manifest, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    return getattr(error, "strerror", None) or "not readable"
