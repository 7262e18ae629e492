"""study/claims/cooled.py: one trunk with cooldowns, against a run for each budget."""

import itertools
import math

import pytest

from study.claims.cooled import cooled
from study.claims.runs import Run, Runs
from study.search.grid import grid
from study.space import Space
from study.stated import branch
from study.trunk import Cost, _id
from train.folder import Folder
from train.logs import write_json

BUDGETS = (200, 400)
RATES = [0.01, 0.02, 0.04]
WORDS = ("cosine 200", "cosine 400")


def valley(rate, best):
    return 2.0 + 0.1 * abs(math.log2(rate / best))


def made(folder, *, behind=0.0, early=0.2, best=0.02, kept=0.5, trunk_best=None):
    """Runs of five seeds, `behind` by the trunk, read `early` that much too high.

    A branch leaves its trunk after a share `kept` of its steps.
    """
    axes = {
        word: {"steps": n, "rate": RATES}
        for word, n in zip(WORDS, BUDGETS, strict=True)
    }
    axes["wsd"] = {"steps": 400, "num_steps": 400, "code": 1, "rate": RATES}
    space = Space(branch({"method": dict(blocks=axes)}), tuple(range(5)), {})
    runs, numbers = [], itertools.count()

    def add(point, picks, steps, loss, of=None):
        place = folder / str(next(numbers))
        place.mkdir()
        write_json(place / "config.json", {"place": place.name})
        write_json(place / "summary.json", cost(steps)._asdict())
        if of is not None:
            start = cost(round(kept * steps))._asdict()
            name = _id(Folder(of))
            facts = {"id": name, "checkpoint": name, "cost": start, "trunk": {}}
            write_json(place / "trunk.json", facts)
        lines = [{"step": 200, "val_loss": loss + early}] if steps == 400 else []
        lines.append({"step": steps, "val_loss": loss})
        runs.append(Run(point, picks, loss, steps, lines, place))
        return place

    for point in grid(space):
        picks = space.retrace(point.overrides)
        noise = 0.02 * point.seed + 1e-3 * (len(runs) % 3)
        steps, rate = point.overrides["steps"], point.overrides["rate"]
        trunk = picks["method"] == "wsd"
        loss = valley(rate, trunk_best or best if trunk else best) + noise
        loss += 0.1 * (steps == 200)
        loss += behind * trunk
        place = add(point, picks, steps, loss)
        if trunk:
            add(point, {**picks, "num_steps": 200}, 200, loss + 0.1, place)
    return Runs(space, runs)


def cost(steps):
    return Cost(steps, 10 * steps, 0.1 * steps, 1e9 * steps)


def judged(folder, *, share=0.9, **numbers):
    return cooled(
        made(folder, **numbers),
        of="method",
        separate=WORDS,
        trunk="wsd",
        budgets=BUDGETS,
        margin=0.02,
        max_cost_share=share,
        read_at=200,
        early_floor=0.05,
    )


def kinds(found):
    return [part.kind for part in found.parts]


def test_a_trunk_that_is_as_good_passes_and_one_that_is_behind_fails(tmp_path):
    for name, behind, kind in (
        ("a", 0.0, "PASS"),
        ("b", -0.1, "PASS"),
        ("c", 0.1, "FAIL"),
    ):
        (tmp_path / name).mkdir()
        found = judged(tmp_path / name, behind=behind)
        assert kinds(found)[:2] == [kind] * 2
        assert found.p == (1 / 32 if kind == "PASS" else 1)
    assert [line.name for line in found.plot.lines][1] == "wsd, one trunk"


def test_a_schedule_that_loses_nothing_when_read_early_fails(tmp_path):
    found = judged(tmp_path, early=0.12)
    assert kinds(found) == ["PASS", "PASS", "PASS", "FAIL"]
    assert "read at step 200" in found.parts[3].asked


@pytest.mark.parametrize(("kept", "percent"), [(0.5, "83.3%"), (0.8, "73.3%")])
def test_the_stretch_that_branches_share_is_counted_once(tmp_path, kept, percent):
    found = judged(tmp_path, kept=kept, share=0.8)
    assert f"{percent} of the FLOPs" in found.parts[2].sentence
    assert found.parts[2].kind == ("PASS" if kept == 0.8 else "FAIL")


def test_a_best_rate_that_is_the_last_tried_is_invalid(tmp_path):
    for name, best in (("cosine", dict(best=0.04)), ("wsd", dict(trunk_best=0.01))):
        (tmp_path / name).mkdir()
        assert judged(tmp_path / name, **best).kind == "INVALID"
