"""Local processes: a device each, dead with whoever started them, ended politely."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from cluster import ENGINES, leash, processes
from cluster.engine import Job, Status
from cluster.processes import Processes
from core import registry

ROOT = pathlib.Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0))
REPORT = "import os; print(sorted(os.sched_getaffinity(0)))"
REPORT += "; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.getsid(0) == os.getpid())"
SLEEP = "print('up', flush=True); import time; time.sleep(600)"


def python(folder, name, code):
    command = (sys.executable, "-I", "-S", "-c", code)
    return Job(name, command, folder / "logs" / f"{name}.log")


def ended(engine, *handles):
    """Their statuses once none runs."""
    found = {}
    while len(found) < len(handles):
        known = engine.poll([handle for handle in handles if handle not in found])
        found |= {handle: s for handle, s in known.items() if s.state != "running"}
        time.sleep(0.01)
    return [found[handle] for handle in handles]


def up(job):
    """Waits until the job has printed something."""
    while not (job.log.exists() and job.log.read_text()):
        time.sleep(0.01)


def test_each_worker_has_its_own_share_of_the_cores_and_a_session(tmp_path):
    engine = registry.build(ENGINES, {"name": "processes", "workers": len(CORES)})
    jobs = [python(tmp_path, f"j{i}", REPORT) for i in range(len(CORES))]
    assert ended(engine, *map(engine.submit, jobs)) == [Status("ended", 0)] * len(jobs)
    told = [job.log.read_text().splitlines() for job in jobs]
    assert [json.loads(lines[0]) for lines in told] == [[core] for core in CORES]
    assert {lines[1].split()[1] for lines in told} == {"True"}


def test_each_worker_sees_one_gpu_of_those_that_are_given(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-ab,6")
    engine = Processes(workers=2, device="gpu")
    first = [python(tmp_path, f"j{i}", REPORT) for i in range(2)]
    ended(engine, *map(engine.submit, first))
    third = python(tmp_path, "j2", REPORT)
    ended(engine, engine.submit(third))
    seen = [job.log.read_text().splitlines()[1].split()[0] for job in [*first, third]]
    assert seen == ["4", "GPU-ab", "4"]
    with pytest.raises(ValueError, match="workers=4 must be at most 3, the number of"):
        Processes(workers=4, device="gpu")


def test_more_workers_than_cores_are_refused():
    with pytest.raises(ValueError, match=f"must be at most {len(CORES)}, the number"):
        Processes(workers=len(CORES) + 1)


def test_a_code_is_told_as_a_shell_tells_it_and_the_log_is_appended_to(tmp_path):
    engine = Processes(workers=1)
    codes = []
    for code in ("os._exit(75)", "os.abort()", "os.kill(os.getpid(), 9)"):
        job = python(tmp_path, "same", f"import os; os.write(2, b'x'); {code}")
        codes += [status.code for status in ended(engine, engine.submit(job))]
    assert codes == [75, 134, 137]
    assert job.log.read_text() == "xxx"
    missing = Job("m", ("/no/such/program",), tmp_path / "m.log")
    assert ended(engine, engine.submit(missing)) == [Status("ended", leash.NOT_FOUND)]
    assert missing.log.read_text() == "/no/such/program: No such file or directory.\n"


POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("up", flush=True)
time.sleep(600)
"""
DEAF = POLITE.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN")


def test_a_cancelled_worker_may_save_and_one_that_does_not_listen_is_killed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    engine = Processes(workers=1)
    for code, expected in ((POLITE, 75), (DEAF, 137)):
        job = python(tmp_path, f"j{expected}", code)
        handle = engine.submit(job)
        up(job)
        engine.cancel(handle)
        assert ended(engine, handle) == [Status("ended", expected)]


def test_closing_ends_what_runs_in_good_order(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    for code, expected in ((POLITE, "saved"), (DEAF, "")):
        engine = Processes(workers=1)
        code = code.replace("sys.exit(75)", "[print('saved'), sys.exit(75)]")
        job = python(tmp_path, f"j{expected}", code)
        handle = engine.submit(job)
        up(job)
        engine.close()
        assert job.log.read_text().split() == ["up", *expected.split()]
        assert engine.poll([handle]) == {handle: Status("lost")}


def test_another_engine_knows_a_worker_by_its_handle_and_by_its_name(tmp_path):
    engine, other = Processes(workers=1), Processes(workers=1)
    job = python(tmp_path, "a.key.1", SLEEP)
    handle = engine.submit(job)
    up(job)
    assert other.find("a.key.1") == handle
    assert other.find("a.key.2") is None
    assert other.poll([handle]) == {handle: Status("running")}
    pid, born = handle.split(".")
    used_again = f"{pid}.{int(born) - 1}"
    assert other.poll([used_again]) == {used_again: Status("lost")}
    other.cancel(used_again)
    assert other.poll([handle]) == {handle: Status("running")}
    engine.close()
    assert other.poll([handle]) == {handle: Status("lost")}
    assert other.find("a.key.1") is None


STARTER = """
import pathlib, sys, time
from cluster.processes import Processes
from tests.test_cluster_processes import SLEEP, python
print(Processes(workers=1).submit(python(pathlib.Path(sys.argv[1]), "a.k.1", SLEEP)))
sys.stdout.flush()
time.sleep(600)
"""


def test_a_worker_dies_with_its_controller_however_that_ends(tmp_path):
    words = [sys.executable, "-c", STARTER, str(tmp_path)]
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert controller.stdout is not None
    handle = controller.stdout.readline().strip()
    up(python(tmp_path, "a.k.1", SLEEP))
    engine = Processes(workers=1)
    assert engine.poll([handle]) == {handle: Status("running")}
    controller.kill()
    controller.communicate()
    assert ended(engine, handle) == [Status("lost")]


def test_a_worker_whose_controller_has_gone_already_never_begins(tmp_path):
    words = [sys.executable, "-I", "-S", str(processes.LEASH), "1", "-"]
    done = subprocess.run([*words, "touch", str(tmp_path / "began")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "began").exists()
