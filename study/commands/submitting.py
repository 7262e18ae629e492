"""The command that gives a command of ours to somebody's cluster."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.command import Command, Option, choose, parse
from core.exits import Stop
from core.refusal import preparing, shown


def submit(
    *,
    commands: Mapping[str, Command],
    to: str,
    job: str,
    run: str,
    file: str = "job.yaml",
    dry_run: bool = False,
    **words: Any,
) -> None:
    """Has a command run by a cluster: a GKE JobSet, a SkyPilot task, TPU VMs."""
    with preparing():
        inner = _checked(run, commands)
        from cluster import RENDERINGS, render
        from core.overrides import read
        from core.registry import Block, build, check, lookup

        lookup(RENDERINGS, to, "--to")
        given: dict[str, Any] = dict(job=job, path=Path(file))
        given["command"] = ("python", "launch.py", *inner)
        block, config = Block(RENDERINGS, given={*given}), {"name": to}
        known = block.options(config, "")
        for key, value in words.items():
            typed = isinstance(value, str) and key in known
            config[key] = read(key, value, known[key].annotation) if typed else value
        check(config, block, "")
        rendered = build(RENDERINGS, config, **given)
        code = render.start(rendered, dry_run=dry_run)
    if code:
        raise Stop(code, f"--to={to}: a command of it ended with code {code}.")


def _checked(run: str, commands: Mapping[str, Command]) -> list[str]:
    """The words of the command that is to be run, which is one of ours."""
    try:
        name, *words = shlex.split(run)
    except ValueError as error:
        raise ValueError(
            f"--run={shown(run)} must be a command, such as 'train --config=...'."
        ) from error
    if name == "submit":
        raise ValueError("--run=submit would submit itself.")
    parse(name, choose(name, commands), words)
    return [name, *words]


SUBMITTING = {
    "submit": Command(
        submit,
        {
            "to": Option("jobset, skypilot or gcloud", "NAME", needed=True),
            "job": Option("its name there", "NAME", needed=True),
            "run": Option("what is to be run", "'COMMAND --OPTION=VALUE'", needed=True),
            "topology": Option("a slice of TPUs, of jobset and gcloud", "v5e:4x4"),
            "accelerators": Option("of skypilot: GPUs, or a slice of TPUs", "H100:8"),
            "image": Option("of jobset: one that holds this folder", "IMAGE"),
            "project": Option("of gcloud", "PROJECT"),
            "zone": Option("of gcloud", "ZONE"),
            "setup": Option("of skypilot and gcloud: what installs us", "COMMAND"),
            "spot": Option("of skypilot and gcloud: cheaper, and may be taken away"),
            "max-restarts": Option("of jobset (default 100)", "N"),
            "file": Option("where its text goes (job.yaml)", "FILE"),
            "dry-run": Option("prints what would be written and run, and stops"),
        },
        "python launch.py submit --to=skypilot --job=mine --accelerators=H100:8 "
        "--run='train --config=experiments/multi30k.py --workdir=/bucket/mine' "
        "--dry-run",
    )
}
