"""A Slurm of two nodes on this machine, with folders, a key and ports of its own."""

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

CONF = """\
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ReturnToService=2
KillWait=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=sn1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=sn2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=main Nodes=sn[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; "" if there can."""
    if os.geteuid() != 0:
        return "slurmd runs the jobs of others, so it needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    packages = "apt-get install slurmctld slurmd slurm-client munge"
    return f"no {absent[0]}: {packages}" if absent else ""


@contextlib.contextmanager
def slurm(folder: pathlib.Path):
    """Both nodes idle, and SLURM_CONF in the environment; ends all of it afterwards."""
    folder.chmod(0o755)
    for name in ("state", "spool/sn1", "spool/sn2", "munge"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    conf, before = folder / "slurm.conf", os.environ.get("SLURM_CONF")
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(folder=folder, host=host, ports=_ports(3)))
    os.environ["SLURM_CONF"] = str(conf)
    try:
        files = ("key", "socket", "pid", "log", "seed")
        words = [f"--{f}-file={folder}/munge/{f}" for f in files if f != "socket"]
        _do("munged", "--force", f"--socket={folder}/munge/socket", *words)
        _do("slurmctld", "-f", str(conf))
        for node in ("sn1", "sn2"):
            _do("slurmd", "-N", node, "-f", str(conf))
        until = time.monotonic() + 60
        while _do("sinfo", "-h", "-t", "idle", "-o", "%D").strip() != "2":
            assert time.monotonic() < until, _do("sinfo", "-N", "-l")
            time.sleep(0.1)
        yield
    finally:
        _end(folder)
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def _do(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _ports(count):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def _end(folder):
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        _do("scancel", "--user=root", "--signal=KILL", "--full")
    for file in (*folder.glob("*.pid"), folder / "munge" / "pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(file.read_text()), signal.SIGTERM)
