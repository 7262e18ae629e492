"""study/spread.py: the parts of a sweep that an engine's processes are given."""

import pytest

from cluster.engine import Status
from cluster.record import KILLED
from core.exits import DONE, REFUSED
from study import outcomes, spread
from study.point import Point
from study.search.wanted import Wish
from tests.test_study_wanted import come_to

POINTS = [Point({"rate": 0.1 * n}, seed) for n in (1, 2, 3) for seed in (0, 1)]
WISHES = [Wish(point, 9) for point in POINTS]


class Workers:
    """An engine whose processes train their parts at once, as far as `reach` says.

    `reach` is by the number of the process; one that is not there ends as it should. A
    process that is given the point `deadly` is killed by it.
    """

    def __init__(self, folder, capacity=2, reach=None, deadly=None):
        self.folder, self.capacity, self.reach = folder, capacity, reach or {}
        self.deadly = deadly
        self.commands, self.codes = [], {}

    def submit(self, job):
        number = len(self.commands)
        self.commands.append(job.command)
        wishes = spread.read(self.folder, job.command[-1].removeprefix("--chunk="))
        if self.deadly in [wish.point for wish in wishes]:
            self.codes[str(number)] = KILLED
            return str(number)
        until = self.reach.get(number, 9)
        for wish in wishes:
            if until:
                ends = "done" if until == wish.until == 9 else ""
                come_to(self.folder, wish.point, {until: 1.0}, ends=ends)
        whole = all(until == wish.until for wish in wishes)
        self.codes[str(number)] = DONE if whole else REFUSED
        return str(number)

    def poll(self, handles):
        return {handle: Status("ended", self.codes[handle]) for handle in handles}

    def close(self):
        """Nothing is left."""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "EVERY_SECONDS", 0.0)
    for point in POINTS:
        outcomes.add(tmp_path, point)
    return tmp_path


def states(sweep):
    return [outcomes.by_id(outcomes.read(sweep))[p.id].state for p in POINTS]


@pytest.mark.parametrize("capacity", [1, 2, 4, 9])
def test_every_trial_is_in_one_part_and_no_process_is_without(sweep, capacity):
    engine = Workers(sweep, capacity)
    spread.spread(sweep, WISHES, engine)
    assert len(engine.commands) == min(capacity, len(WISHES))
    assert states(sweep) == ["done"] * 6
    for command in engine.commands:
        assert command[2:-1] == ("trials", f"--workdir={sweep}")
    names = [command[-1].removeprefix("--chunk=") for command in engine.commands]
    assert all(spread.read(sweep, name) == [] for name in names), "all has ended"


def test_parts_that_are_over_are_not_begun_again(sweep):
    spread.spread(sweep, WISHES, Workers(sweep))
    again = Workers(sweep)
    spread.spread(sweep, WISHES, again)
    assert again.commands == []


def test_the_trials_of_a_process_that_cannot_are_given_up_with_its_reason(sweep):
    spread.spread(sweep, WISHES, Workers(sweep, reach={1: 0}))
    assert states(sweep) == ["done", "failed"] * 3
    reason = (outcomes.trial_folder(sweep, POINTS[1]) / "failed.json").read_text()
    assert f"code {REFUSED}: {sweep / 'logs'}" in reason


def test_a_trial_that_kills_its_processes_fails_alone(sweep):
    engine = Workers(sweep, deadly=POINTS[2])
    spread.spread(sweep, WISHES, engine)
    assert states(sweep) == ["done"] * 2 + ["failed"] + ["done"] * 3
    # A part of 3 and then it alone are killed so often; two others are done at once.
    assert len(engine.commands) == 2 * (1 + spread.ATTEMPTS) + 2
    again = Workers(sweep)
    spread.spread(sweep, WISHES, again)
    assert again.commands == []


def test_a_trial_that_came_as_far_as_was_wished_is_not_given_up(sweep):
    """A rung of halving: the process fails after some of its trials are there."""
    wishes = [Wish(point, 3) for point in POINTS]
    engine = Workers(sweep, capacity=1, reach={0: 3})
    engine.submit = submit_and_fail(engine)
    spread.spread(sweep, wishes, engine)
    assert states(sweep) == ["running"] * 6


def submit_and_fail(engine):
    """Trains all that is asked for, and ends as one that could not."""
    submit = engine.submit

    def failing(job):
        handle = submit(job)
        engine.codes[handle] = REFUSED
        return handle

    return failing


def test_a_part_that_is_not_there_is_refused(sweep):
    with pytest.raises(ValueError, match="--chunk='0123' is no part of the sweep"):
        spread.read(sweep, "0123")
