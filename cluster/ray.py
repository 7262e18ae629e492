"""Jobs of a Ray cluster, through its job server: commands, and nothing in a pickle."""

import pathlib
import shlex
from collections.abc import Collection
from typing import Any

from cluster.engine import Job, Status, as_shell
from core.exits import PREEMPTED
from core.refusal import one_line, shown

NOT_FOUND = "status code 404"


class Ray:
    """`workers` jobs at once, each with so many CPUs and GPUs of some node.

    They run in the folder that this process was started in, which all nodes have to
    see, and so they have to see the logs. Ray sends SIGTERM to what is cancelled, and
    SIGKILL after RAY_JOB_STOP_WAIT_TIME_S of its head node, which is 3 unless set.

    A handle is the job's name, which Ray takes once: it is its submission id.

    Source: https://docs.ray.io/en/latest/cluster/running-applications/job-submission.
    """

    def __init__(
        self,
        *,
        workers: int,
        address: str = "http://127.0.0.1:8265",
        cpus: float = 1.0,
        gpus: float = 0.0,
    ):
        self.capacity = workers
        self._client = _client(address)
        self._needs = dict(entrypoint_num_cpus=cpus, entrypoint_num_gpus=gpus)

    def submit(self, job: Job) -> str:
        log = job.log.absolute()
        log.parent.mkdir(parents=True, exist_ok=True)
        folder, log = shlex.quote(str(pathlib.Path.cwd())), shlex.quote(str(log))
        line = f"cd {folder} && exec {shlex.join(job.command)} >> {log} 2>&1"
        words = dict(entrypoint=line, submission_id=job.name, **self._needs)
        self._ask("submit_job", **words)
        return job.name

    def find(self, name: str) -> str | None:
        try:
            self._ask("get_job_info", name)
        except ValueError as error:
            if NOT_FOUND in str(error):
                return None
            raise
        return name

    def poll(self, handles: Collection[str]) -> dict[str, Status]:
        found = {}
        for handle in handles:
            try:
                found[handle] = _status(self._ask("get_job_info", handle))
            except ConnectionError:
                continue
            except ValueError as error:
                if NOT_FOUND not in str(error):
                    raise
                found[handle] = Status("lost")
        return found

    def cancel(self, handle: str) -> None:
        self._ask("stop_job", handle)

    def close(self) -> None:
        """Nothing to do: jobs outlive us."""

    def _ask(self, verb: str, *args: str, **words: Any) -> Any:
        try:
            return getattr(self._client, verb)(*args, **words)
        except OSError as error:  # of requests, which Ray lets through
            raise ConnectionError(
                f"No answer from Ray: {one_line(str(error))}"
            ) from error
        except RuntimeError as error:
            raise ValueError(f"Ray: {one_line(str(error))}") from error


def _client(address: str) -> Any:
    """Raises ValueError where there is no Ray here, or no cluster at the address."""
    try:
        from ray import job_submission  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise ValueError(
            "engine.name='ray' needs Ray: pip install 'steepest[ray]'."
        ) from error
    try:
        return job_submission.JobSubmissionClient(address)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"engine.address={shown(address)} is no job server of Ray: "
            f"{one_line(str(error), 90)}"
        ) from error


def _status(info: Any) -> Status:
    """Of what Ray tells of a job."""
    word, code = str(info.status.value), info.driver_exit_code
    if word in ("PENDING", "RUNNING"):
        return Status("waiting" if word == "PENDING" else "running")
    if word == "STOPPED":
        # It was asked to save; Ray does not keep with which code it then ended.
        return Status("ended", PREEMPTED)
    if code is None:
        return Status("lost")
    return Status("ended", as_shell(code))
