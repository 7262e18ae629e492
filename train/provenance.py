"""Where a run came from: code, versions, devices, command. Secrets are left out."""

import datetime
import functools
import importlib.metadata
import itertools
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

LIBRARIES = (
    *("steepest", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("sentencepiece", "sacrebleu", "babel"),
)
HIDDEN = "[hidden]"

# One word of a name that says its value is nobody's business; `max_tokens` is not one.
SECRET_WORDS = {
    *("token", "secret", "password", "passwd", "credential", "credentials", "auth"),
    *("apikey", "accesskey", "privatekey", "secretkey", "bearer", "passphrase"),
}
# What the tokens of well-known services look like, and the password in an address.
SECRET_VALUE = re.compile(
    r"\b(hf|ghp|gho|ghs|github_pat|glpat|sk|xox[abprs])[-_][\w-]{16,}"
    r"|\bAKIA[A-Z0-9]{16}\b|\beyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=://)[^/@\s]+(?=@)"
)


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """What one needs to know to do the run again; for `provenance.json`."""
    device = jax.devices()[0]
    return {
        "command": redacted(command, os.environ),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **_own_code(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
        },
        "platform": platform.platform(),
        "cores": usable_cores(),
        "device_platform": device.platform,
        "device_kind": device.device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def usable_cores() -> int:
    """The cores that this process may run on, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def redacted(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """`command` without what looks like a secret, by its name or its own looks.

    Values of the environment's secrets are hidden wherever they stand.

    >>> redacted(["train", "--config.data.token=abc", "--config.max_tokens=64"], {})
    ['train', '--config.data.token=[hidden]', '--config.max_tokens=64']
    """
    known = [
        value
        for name, value in environment.items()
        if _names_a_secret(name) and len(value) >= 8
    ]
    return list(_redacted(command, known))


def _redacted(command: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    hide_next = False
    for word in command:
        name, equals, value = word.partition("=")
        is_flag = name.startswith("-")
        if hide_next and not is_flag:
            yield HIDDEN
        elif equals and value and _names_a_secret(name):
            yield f"{name}={HIDDEN}"
        else:
            for secret in known:
                word = word.replace(secret, HIDDEN)
            yield SECRET_VALUE.sub(HIDDEN, word)
        hide_next = is_flag and not equals and _names_a_secret(name)


def _names_a_secret(name: str) -> bool:
    words = re.split(r"[^a-z0-9]+", name.lower())
    pairs = (first + second for first, second in itertools.pairwise(words))
    return not SECRET_WORDS.isdisjoint([*words, *pairs])


@functools.cache
def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache  # the code that runs is that of the process's start
def _own_code() -> dict[str, Any]:
    return _code(pathlib.Path(__file__).resolve().parent.parent)


def _code(root: pathlib.Path) -> dict[str, Any]:
    """Commit of the checkout that this file is part of; None of it elsewhere."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), "--no-optional-locks", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.strip()

    try:
        ours = pathlib.Path(git("rev-parse", "--show-toplevel")) == root
        if ours:
            dirty = git("status", "--porcelain") != ""
            return {"commit": git("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.SubprocessError):
        pass  # no git, no repository, or no commit yet
    return {"commit": None, "dirty": None}
