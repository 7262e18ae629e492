"""What must not drift between the parts of one run, should they be the same run."""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import re
from collections.abc import Collection, Mapping

import jax

from core.registry import nearest
from core.settings import dump
from core.types import Config
from train.provenance import usable_cores

Fingerprint = dict[str, str | int]

# Keys of the config that leave the steps as they are. The length is one of them: a
# finished run goes on with a larger one (a schedule that reads it then bends).
BENIGN = re.compile(
    r"num_steps|num_tokens|num_epochs|log_every|init_from|data\.folder"
    r"|guard\.max_streak|guard\.max_share|(checkpoint|evaluate|decode)\..*"
    r"|measure\.(sharpness_every|lanczos_steps|attention|attention_rows)"
)

# Keys that decide what is read.
DATA = re.compile(r"(data|tokenizer|packing)\.")

# Their source decides what a step computes.
PACKAGES = ("core", "data", "models", "optim", "tasks", "train")

# These write files or are counted elsewhere; they do not change a number.
BENIGN_FLAGS = ("--xla_dump_", "--xla_force_host_platform_device_count")


def take(config: Config, *, data_digest: str) -> Fingerprint:
    """The facts on which the numbers of a run depend, as they are now.

    `config` is the resolved one. On a CPU the number of cores is such a fact: it
    decides how sums are split.
    """
    facts = stated(config)
    facts["data_digest"] = data_digest
    facts["code"] = _code_digest(pathlib.Path(__file__).parent.parent)
    for package in ("jax", "jaxlib", "flax", "optax"):
        facts[package] = importlib.metadata.version(package)
    for option in ("default_matmul_precision", "enable_x64", "threefry_partitionable"):
        facts[option] = str(getattr(jax.config, f"jax_{option}"))
    device = jax.devices()[0]
    facts["devices"] = jax.device_count()
    facts["platform"] = device.platform
    facts["device_kind"] = device.device_kind
    facts["cores"] = usable_cores() if device.platform == "cpu" else "any"
    flags = os.environ.get("XLA_FLAGS", "").split()
    facts["XLA_FLAGS"] = " ".join(f for f in flags if not f.startswith(BENIGN_FLAGS))
    return facts


def stated(config: Config) -> Fingerprint:
    """Those of the facts that the resolved config states."""
    return {
        key: value if isinstance(value, int | str) else dump(value)
        for key, value in flat(config).items()
        if not BENIGN.fullmatch(key)
    }


def branched(old: Fingerprint, config: Config, *, data_digest: str) -> Fingerprint:
    """The facts of a run of facts `old` that goes on under another config.

    All that no config states is as it was: where it has changed by now, it drifted. The
    digest of the data is the new one where the config reads other data.
    """
    now, said = take(config, data_digest=data_digest), stated(config)
    facts = {key: said.get(key, old.get(key, value)) for key, value in now.items()}
    if any(said[key] != old.get(key) for key in said if DATA.match(key)):
        facts["data_digest"] = data_digest
    return facts


def compare(
    old: Mapping[str, str | int],
    new: Mapping[str, str | int],
    allowed: Collection[str] = (),
) -> list[str]:
    """The drifts from `old` to `new`, as lines to record: all of them are allowed.

    Raises:
      ValueError: a fact differs and is not in `allowed`, or `allowed` has no fact.

    >>> compare({"seed": 0}, {"seed": 1}, allowed=["seed"])
    ["seed=1 differs from the run's seed=0"]
    """
    known = [*new, *(key for key in old if key not in new)]
    for key in allowed:
        if key not in known:
            raise ValueError(
                f"--allow-drift={key[:40]} is not known.{nearest(key, known)} "
                "It takes a key of the run's fingerprint."
            )
    drifts = {
        key: _difference(key, old.get(key, "nothing"), new.get(key, "nothing"))
        for key in known
        if key not in old or key not in new or old[key] != new[key]
    }
    refused = [key for key in drifts if key not in allowed]
    if refused:
        more = f", and {len(refused) - 1} more do" if len(refused) > 1 else ""
        raise ValueError(
            f"{drifts[refused[0]]}{more}. Go on with --allow-drift={refused[0]}, "
            "or use another --workdir."
        )
    return list(drifts.values())


def flat(config: Config, prefix: str = "") -> dict[str, object]:
    """Values by dotted key; what JSON made a list is the tuple that it was."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = tuple(value) if isinstance(value, list) else value
    return found


def _difference(key: str, old: str | int, new: str | int) -> str:
    """Both values; of long ones a piece that differs."""
    old, new = str(old), str(new)
    if max(len(old), len(new)) > 24:
        pairs = enumerate(zip(old, new, strict=False))
        same = next((i for i, (x, y) in pairs if x != y), min(len(old), len(new)))
        start = max(same - 4, 0)
        old, new = (("..." if start else "") + x[start:][:18] for x in (old, new))
    return f"{key}={new} differs from the run's {key}={old}"


@functools.cache  # what was imported stays what it was, whatever is edited meanwhile
def _code_digest(root: pathlib.Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            name = path.relative_to(root).as_posix()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
