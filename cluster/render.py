"""Commands as jobs of others' clusters: a GKE JobSet, a SkyPilot task, TPU VMs.

Each is text first; `start` prints it, or hands it to the tool of that cluster. What
restarts a job, and after which of our exit codes, stands in the text.
"""

import json
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

from cluster.record import PEER_DIED
from cluster.topology import Topology
from core.exits import DATA, DONE, NUMERICS, PREEMPTED, REFUSED, STORAGE
from core.refusal import shown

FINAL = (REFUSED, DATA, NUMERICS, STORAGE)  # to begin again cannot help after these
AGAIN = (PREEMPTED, PEER_DIED)
GRACE_SECONDS = 120  # between SIGTERM and SIGKILL: a checkpoint of all hosts has to fit

NAMES = {
    "name": (r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "up to 40 of a-z, 0-9 and '-'"),
    "image": (r"[a-z0-9][\w./:@-]{0,254}", "an image, such as gcr.io/me/steepest:1"),
    "project": (r"[a-z][-a-z0-9.:]{4,61}[a-z0-9]", "a project, such as my-project-1"),
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z]", "a zone, such as us-central2-b"),
    "accelerators": (r"[A-Za-z0-9][\w.-]*:[1-9]\d*", "a slice or GPUs, such as H100:8"),
}

JOBSET = """\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: {max_restarts}
    rules:
    - action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
  - name: hosts
    replicas: 1
    template:
      spec:
        parallelism: {hosts}
        completions: {hosts}
        completionMode: Indexed
        backoffLimit: 0
        podFailurePolicy:
          rules:
          - action: FailJob
            onExitCodes:
              operator: In
              values: {final}
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: {grace}
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: {accelerator}
              cloud.google.com/gke-tpu-topology: {shape}
            containers:
            - name: run
              image: {image}
              command:
{words}
              resources:
                limits:
                  google.com/tpu: {chips}
"""

SKYPILOT = """\
name: {name}
resources:
  accelerators: {accelerators}
  use_spot: {spot}
  job_recovery:
    recover_on_exit_codes: {again}
workdir: .
setup: {setup}
run: {run}
"""


class Rendered(NamedTuple):
    """A file's text, "" for none, and the commands that start what it says.

    `last` is run after them, whether they succeed or not.
    """

    path: pathlib.Path
    text: str
    commands: tuple[tuple[str, ...], ...]
    last: tuple[str, ...] = ()

    def told(self) -> str:
        """All of it, to be read."""
        commands = [*self.commands, *([self.last] if self.last else [])]
        lines = "".join(f"{shlex.join(command)}\n" for command in commands)
        return f"# {self.path}\n{self.text}\n{lines}" if self.text else lines


def start(rendered: Rendered, *, dry_run: bool = False) -> int:
    """Runs the commands up to the first that fails; returns its code, or 0.

    With `dry_run` it prints what it would write and run, and does neither.
    """
    if dry_run:
        print(rendered.told(), end="")
        return DONE
    if rendered.text:
        rendered.path.write_text(rendered.text, encoding="utf-8")
    try:
        code = next(filter(None, map(_run, rendered.commands)), DONE)
    finally:
        left = _run(rendered.last) if rendered.last else DONE
    return code or left


def jobset(
    job: str,
    command: tuple[str, ...],
    path: pathlib.Path,
    *,
    topology: str,
    image: str,
    max_restarts: int = 100,
) -> Rendered:
    """A JobSet of Google's Kubernetes: one pod for each host of a slice of TPUs.

    All hosts begin again together when one ends, for a run that has lost a peer cannot
    go on; but not after an exit code of which a restart is no cure.

    Source: https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2.
    """
    check(name=job, image=image)
    tpus = Topology.of(topology)
    text = JOBSET.format(
        name=_quoted(job),
        max_restarts=max_restarts,
        hosts=tpus.hosts,
        final=list(FINAL),
        grace=GRACE_SECONDS,
        accelerator=tpus.kind.gke,
        shape=tpus.gke,
        image=_quoted(image),
        words="\n".join(f"              - {_quoted(word)}" for word in command),
        chips=tpus.chips // tpus.hosts,
    )
    return Rendered(path, text, (("kubectl", "apply", "-f", str(path)),))


def skypilot(
    job: str,
    command: tuple[str, ...],
    path: pathlib.Path,
    *,
    accelerators: str,
    setup: str = "pip install -e .",
    spot: bool = False,
) -> Rendered:
    """A managed job of SkyPilot, on the cheapest cloud that has the accelerators.

    These are GPUs, `H100:8`, or a slice of TPUs, `v5e:4x4`. A preempted job is started
    again by SkyPilot itself, and so is one that ends with 75 or 134.

    Source: https://docs.skypilot.co/en/latest/reference/yaml-spec.html.
    """
    check(name=job)
    if "x" in accelerators.partition(":")[2]:
        accelerators = f"tpu-{Topology.of(accelerators).gcloud}:1"
    check(accelerators=accelerators)
    text = SKYPILOT.format(
        name=_quoted(job),
        accelerators=accelerators,
        spot=json.dumps(spot),
        again=list(AGAIN),
        setup=_quoted(setup),
        run=_quoted(shlex.join(command)),
    )
    return Rendered(path, text, (("sky", "jobs", "launch", "--yes", str(path)),))


def gcloud(
    job: str,
    command: tuple[str, ...],
    path: pathlib.Path,
    *,
    topology: str,
    project: str,
    zone: str,
    setup: str = "pip install -e .[tpu]",
    spot: bool = False,
) -> Rendered:
    """TPU VMs, made, filled with this folder, used by all hosts at once, and deleted.

    They are deleted whatever the command ends with, for they cost money as long as they
    are there; its workdir has to be a bucket. `path` is not written.

    Source: https://cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm.
    """
    check(name=job, project=project, zone=zone)
    tpus = Topology.of(topology)
    where = (f"--project={project}", f"--zone={zone}")

    def tool(verb: str, *words: str) -> tuple[str, ...]:
        return ("gcloud", "compute", "tpus", "tpu-vm", verb, *words, *where)

    kind = (f"--accelerator-type={tpus.gcloud}", f"--version={tpus.kind.image}")
    inside = f"cd steepest && {setup} && {shlex.join(command)}"
    commands = (
        tool("create", job, *kind, *(["--spot"] if spot else [])),
        tool("scp", "--recurse", ".", f"{job}:steepest", "--worker=all"),
        tool("ssh", job, "--worker=all", f"--command={inside}"),
    )
    return Rendered(path, "", commands, tool("delete", job, "--quiet"))


def check(**names: str) -> None:
    """Raises ValueError for a name that its cluster would refuse."""
    for key, value in names.items():
        pattern, allowed = NAMES[key]
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{key}={shown(value)} must be {allowed}.")


def _quoted(text: str) -> str:
    """A text as YAML has it: a name like `yes` would be a truth."""
    return json.dumps(text, ensure_ascii=False)


def _run(command: Iterable[str]) -> int:
    command = tuple(command)
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise ValueError(f"There is no {command[0]} here, which starts it.") from None
