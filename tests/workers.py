"""Tiny commands that work as a training does: in steps, going on where they were."""

import pathlib
import sys

from cluster.engine import Job

ROOT = pathlib.Path(__file__).parent.parent

# Begins a program: modules of `cluster` without its registry, which imports JAX.
ALONE = f"""
import sys, types
sys.path.insert(0, {str(ROOT)!r})
sys.modules["cluster"] = types.ModuleType("cluster")
sys.modules["cluster"].__path__ = [{str(ROOT / "cluster")!r}]
"""

# Holds its folder while it runs, counts its steps in a file and says when it is done.
WORKER = r"""
import fcntl, os, pathlib, sys, time
folder, steps, gate, *codes = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / "lock").open("a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (folder / "two_at_once").touch()
    sys.exit(1)
starts = (folder / "starts").open("a+")
starts.write("x")
starts.flush()
starts.seek(0)
start = len(starts.read()) - 1
if start < len(codes) - 1:
    os._exit(int(codes[start]))
count = folder / "count"
done = int(count.read_text()) if count.exists() else 0
while done < int(steps):
    time.sleep(0.01)
    done += 1
    draft = folder / "draft"
    draft.write_text(str(done))
    draft.replace(count)
while gate and not os.path.exists(gate):
    time.sleep(0.01)
if not (folder / "done").exists():
    with (folder / "completions").open("a") as completions:
        completions.write("x")
    (folder / "done").touch()
os._exit(int(codes[-1]) if codes else 0)
"""


def worker(folder: pathlib.Path, name: str, *codes: int, steps=2, gate="") -> Job:
    """A job that works in `folder / name`, and is not done before there is a `gate`.

    Its starts end with `codes`, one after the other; from the last on it works.
    """
    script = folder / "worker.py"
    if not script.exists():
        script.write_text(WORKER)
    words = [str(folder / name), str(steps), str(gate), *map(str, codes)]
    command = (sys.executable, "-I", "-S", str(script), *words)
    return Job(name, command, folder / "logs" / f"{name}.log")
