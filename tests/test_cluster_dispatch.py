"""Jobs brought to their ends: what is tried again, what a crash at any point leaves."""

import collections
import itertools
import json
import pathlib

import pytest

from cluster.dispatch import dispatch
from cluster.engine import Job, Status
from cluster.record import Record, read
from core.exits import (
    DATA,
    DONE,
    HANG,
    NUMERICS,
    PREEMPTED,
    REFUSED,
    STORAGE,
    Stop,
)

JOBS = [Job(name, ("train", name), pathlib.Path("log")) for name in ("a", "b", "c")]


class Crash(BaseException):
    """SIGKILL, as seen from inside."""


class World:
    """Machines that outlive their controller, as those of Slurm do.

    Each poll is a moment; a job runs for two. `codes` are those of the starts of each
    job, None for one that is lost; the last stands for all that follow.
    """

    def __init__(self, capacity=2, codes=None, crash_at=-1, deaf=False):
        self.capacity, self.codes = capacity, codes or {}
        self.moments, self.starts, self.cancelled = {}, collections.Counter(), []
        self.names, self.calls, self.crash_at, self.deaf = {}, 0, crash_at, deaf
        self.most = 0

    def _call(self):
        """A controller can die before each call, and after it."""
        self.calls += 1
        if self.calls == self.crash_at:
            raise Crash

    def running(self, base):
        return [h for h in self.moments if self.names[h].split(".")[0] == base]

    def submit(self, job):
        self._call()
        base = job.name.split(".")[0]
        assert self.running(base) == [], "it runs already"
        assert job.name not in self.names.values(), "the name was there before"
        handle = f"h{len(self.names)}"
        self.names[handle], self.moments[handle] = job.name, 2
        self.starts[base] += 1
        self.most = max(self.most, len(self.moments))
        self._call()
        if self.deaf and self.starts[base] == 1:
            raise ConnectionError("no answer")
        return handle

    def find(self, name):
        self._call()
        found = [handle for handle in self.names if self.names[handle] == name]
        return found[0] if found else None

    def poll(self, handles):
        self._call()
        for handle in list(self.moments):
            self.moments[handle] -= 1
            if self.moments[handle] <= 0:
                del self.moments[handle]
        self._call()
        return {handle: self._status(handle) for handle in handles}

    def _status(self, handle):
        if handle in self.moments:
            return Status("running")
        if handle in self.cancelled:
            return Status("ended", PREEMPTED)
        base, _, number = self.names[handle].split(".")
        codes = self.codes.get(base, [DONE])
        code = codes[min(int(number), len(codes)) - 1]
        return Status("lost") if code is None else Status("ended", code)

    def cancel(self, handle):
        self._call()
        if handle in self.moments:
            self.cancelled.append(handle)
            self.moments[handle] = 1
        self._call()

    def close(self):
        pass


def run(world, record, jobs=JOBS, attempts=1, **how):
    return dispatch(
        jobs, world, record=record, attempts=attempts, every_seconds=0, **how
    )


@pytest.mark.parametrize("code", [DONE, REFUSED, DATA, NUMERICS, STORAGE, 1])
def test_a_code_that_says_why_ends_the_job(tmp_path, code):
    world = World(codes={"a": [code]})
    assert run(world, tmp_path / "r.jsonl") == {"a": code, "b": DONE, "c": DONE}
    assert world.starts == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("code", [PREEMPTED, 134])
def test_what_was_preempted_is_started_again_without_limit(tmp_path, code):
    world = World(codes={"b": [code] * 30 + [DONE]})
    assert run(world, tmp_path / "r.jsonl", attempts=0)["b"] == DONE
    assert world.starts["b"] == 31


@pytest.mark.parametrize("code", [None, 137, 139, 143, HANG])
@pytest.mark.parametrize("attempts", [0, 2])
def test_what_was_killed_or_lost_is_started_again_so_many_times(
    tmp_path, code, attempts
):
    world = World(codes={"b": [code]})
    ends = run(world, tmp_path / "r.jsonl", attempts=attempts)
    assert ends == {"a": DONE, "b": code or 137, "c": DONE}
    assert world.starts == {"a": 1, "b": attempts + 1, "c": 1}


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_no_more_are_in_flight_than_the_engine_takes(tmp_path, capacity):
    world = World(capacity, codes={"a": [PREEMPTED, None, DONE]})
    run(world, tmp_path / "r.jsonl")
    assert world.most == capacity


def test_a_job_that_is_stopped_is_cancelled_once_or_never_started(tmp_path):
    world = World(capacity=1)
    asked = []

    def stop(name):
        asked.append(name)
        return name == "c" or (name == "a" and bool(world.moments))

    ends = run(world, tmp_path / "r.jsonl", stop=stop)
    assert ends == {"a": PREEMPTED, "b": DONE, "c": PREEMPTED}
    assert world.cancelled == ["h0"]
    assert world.starts == {"a": 1, "b": 1}
    assert run(World(), tmp_path / "r.jsonl") == ends
    assert asked.count("b") > 1


def test_a_submission_without_an_answer_is_looked_for_before_it_is_repeated(tmp_path):
    world = World(deaf=True)
    ends = run(world, tmp_path / "r.jsonl")
    assert set(ends.values()) == {DONE}
    assert world.starts == {"a": 1, "b": 1, "c": 1}


CODES = {"a": [PREEMPTED, DONE], "b": [137, DONE], "c": [NUMERICS]}


def crashed(world, record, stop):
    """Whether the controller came to its end before it crashed."""
    try:
        run(world, record, stop=stop)
    except Crash:
        return True
    return False


@pytest.mark.parametrize("stopped", ["", "a"])
def test_a_controller_that_dies_before_or_after_any_call_begins_nothing_twice(
    tmp_path, stopped
):
    def stop(name):
        return name == stopped and world.starts["a"] == 2

    for at in itertools.count(1):
        world = World(codes=CODES, crash_at=at)
        record = tmp_path / f"{at}.jsonl"
        if not crashed(world, record, stop):
            assert at > 20
            return
        ends = run(world, record, stop=stop)
        # World.submit refuses what runs already, and a name that it has seen.
        assert world.starts == {"a": 2, "b": 2, "c": 1}
        first = PREEMPTED if stopped and world.cancelled else DONE
        assert ends == {"a": first, "b": DONE, "c": NUMERICS}
        known = {name: job.code for name, job in read(record)[1].items()}
        assert known == ends


def test_what_was_lost_while_nobody_watched_is_held_against_nobody(tmp_path):
    world = World(codes={"a": [None, DONE]}, crash_at=8)
    with pytest.raises(Crash):
        run(world, tmp_path / "r.jsonl", attempts=0)
    world.moments = {}
    assert run(world, tmp_path / "r.jsonl", attempts=0)["a"] == DONE


def test_what_nobody_asks_for_any_more_is_ended_before_anything_starts(tmp_path):
    world = World(capacity=3, crash_at=8)
    with pytest.raises(Crash):
        run(world, tmp_path / "r.jsonl")
    assert len(world.moments) == 3
    world.capacity = 9
    other = [JOBS[0]._replace(name="d"), JOBS[1]]
    started = []
    submit = world.submit

    def watched(job):
        started.append((job.name[0], world.running("a"), world.running("c")))
        return submit(job)

    world.submit = watched
    assert run(world, tmp_path / "r.jsonl", jobs=other) == {"d": DONE, "b": DONE}
    assert started == [("d", [], [])]


def test_a_line_that_a_crash_tore_is_dropped_and_any_other_is_refused(tmp_path):
    record = tmp_path / "r.jsonl"
    run(World(), record)
    whole = record.read_bytes()
    for cut in range(0, len(whole), 7):
        record.write_bytes(whole[:cut])
        with Record(record) as held:
            assert held.key == read(record)[0] != ""
        assert record.read_bytes().endswith(b"\n")
    record.write_bytes(whole.replace(b'"ended"', b'"endet"', 1))
    with pytest.raises(ValueError, match=r"r\.jsonl:\d+ is damaged"):
        Record(record)
    record.write_bytes(whole)
    again = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["event"] for line in again[1:]].count("ended") == 3


def test_a_record_has_one_controller_and_a_full_disk_is_said(tmp_path, monkeypatch):
    with Record(tmp_path / "r.jsonl") as held:
        with pytest.raises(ValueError, match="held by another controller"):
            Record(tmp_path / "r.jsonl")

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(Stop, match="No space left") as caught:
            held.write("a", "submitting")
        assert caught.value.code == STORAGE


@pytest.mark.parametrize("name", ["", "-a", "a b", "a.b", "a\n", "../a", "x" * 81])
def test_an_odd_name_is_refused_in_one_line_before_anything_starts(tmp_path, name):
    world, odd = World(), [JOBS[0], JOBS[0]._replace(name=name)]
    with pytest.raises(ValueError, match="cannot have the name") as caught:
        run(world, tmp_path / "r.jsonl", jobs=odd)
    assert "\n" not in str(caught.value)
    assert not world.starts
    assert not (tmp_path / "r.jsonl").exists()


def test_a_name_twice_and_a_negative_count_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Two jobs have the name 'a'"):
        run(World(), tmp_path / "r.jsonl", jobs=[JOBS[0], JOBS[0]])
    with pytest.raises(ValueError, match="attempts=-1 must be 0 or more"):
        run(World(), tmp_path / "r.jsonl", attempts=-1)
