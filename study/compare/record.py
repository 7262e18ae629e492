"""What a page must own up to: runs that were lost, what differs, where all is from."""

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from study.compare.contest import Contest
from study.compare.naming import described, differing, told
from study.compare.runs import Run
from study.compare.section import NONE, TIMES, Section, Table, count
from train.provenance import LIBRARIES

MOST_COLUMNS = 5
MOST = 40  # rows that a page lists; comparison.json has all


def lost(contest: Contest) -> Section:
    """Runs that diverged, which count as lost, and what is no result yet."""
    diverged = [
        {
            "run": run.name,
            "arm": arm.name,
            "setting": dict(setting.values),
            "seed": seed,
            "step": run.steps,
            "reason": run.diverged or f"{contest.metric} is not finite",
        }
        for arm in contest.arms
        for setting in arm.settings
        for seed, run in setting.runs.items()
        if math.isinf(setting.losses[seed])
    ]
    unread = [one._asdict() for one in contest.found.unread]
    unread += [
        {"name": run.name, "why": "is of a setting and a seed that were there already"}
        for arm in contest.arms
        for run in arm.twice
    ]
    data = {"diverged": diverged, "unread": unread}
    rows = [
        [
            one["arm"],
            described(one["setting"]),
            str(one["seed"]),
            count(one["step"]),
            one["reason"],
        ]
        for one in diverged[:MOST]
    ]
    others = [[one["name"], one["why"]] for one in unread[:MOST]]
    tables = []
    if rows:
        heads = ["arm", "setting", "seed", "at step", "reason"]
        tables.append(Table(heads, rows, "Diverged", ("setting", "reason")))
    if others:
        heads = ["run", "why"]
        tables.append(Table(heads, others, "Left out: no result", ("run", "why")))
    reading = f"{len(diverged)} of {len(contest.found.runs)} runs diverged"
    if diverged:
        reading += ": they count as the worst of all in every test, none is dropped"
    if unread:
        reading += (
            f". Beside them {len(unread)} have no result and are in no number of this "
            "page"
        )
    reading += "."
    return Section("lost", "Runs that were lost", reading, data, tables)


def configs(contest: Contest) -> Section:
    """Every key that differs, for each arm at its best setting and what was tried."""
    key, title = "differences", "What differs in the configs"
    unlike = differing(run for arm in contest.arms for run in arm.runs)
    if not unlike:
        return Section(key, title, data={}, absent="All configs are the same.")
    data: dict[str, Any] = {}
    for name in unlike:
        data[name] = {
            arm.name: {"best": arm.config.get(name), "tried": _tried(arm.runs, name)}
            for arm in contest.arms
        }
    reading = (
        "Keys that are not the same in all runs, beside the seeds. The first value is "
        "that of the best setting; behind it, in brackets, is all that was tried."
    )
    table = _table(data, [arm.name for arm in contest.arms])
    return Section(key, title, reading, data, [table])


def _table(data: dict[str, dict[str, Any]], names: Sequence[str]) -> Table:
    """A column an arm, or where those are many a row for each."""
    if len(names) <= MOST_COLUMNS:
        rows = [[key, *(_cell(of[name]) for name in names)] for key, of in data.items()]
        return Table(["key", *names], rows, wide=("key",))
    rows = [[key, name, _cell(of[name])] for key, of in data.items() for name in names]
    return Table(["key", "arm", "value"], rows, wide=("key", "arm", "value"))


def _tried(runs: Iterable[Run], key: str) -> list[Any]:
    runs = list(runs)
    unlike = differing(runs).get(key)
    if unlike is not None:
        return unlike
    return [run.config[key] for run in runs[:1] if key in run.config]


def _cell(facts: dict[str, Any]) -> str:
    if not facts["tried"]:
        return NONE
    best = NONE if facts["best"] is None else told(facts["best"])
    if len(facts["tried"]) == 1:
        return best
    return f"{best} ({', '.join(map(told, facts['tried']))})"


def provenance(contest: Contest) -> Section:
    """Code, versions, devices, seeds and commands behind the numbers."""
    runs = contest.found.runs
    launches = [one for run in runs for one in run.provenance.get("launches", [])]
    commits = _each(_commit(one) for one in launches)
    versions = {
        name: _each(str(one.get("versions", {}).get(name)) for one in launches)
        for name in ("python", *LIBRARIES)
    }
    devices = _each(
        f"{one.get('num_devices', '?')} {TIMES} {one.get('device_kind', '?')}, "
        f"{one.get('cores', '?')} cores, {one.get('platform', '?')}"
        for one in launches
    )
    commands = _each(shlex.join(one.get("command", [])) for one in launches)
    started = sorted(str(one["started"]) for one in launches if "started" in one)
    data = {
        "runs": len(runs),
        "paths": list(contest.paths),
        "seeds": sorted({run.seed for run in runs}),
        "commits": commits,
        "devices": devices,
        "versions": {name: found for name, found in versions.items() if found},
        "started": [started[0], started[-1]] if started else [],
        "commands": [command for command in commands if command],
        "command": list(contest.command),
    }
    rows = [
        ["this page", shlex.join(contest.command) or "made by a call, not a command"],
        ["run folders", ", ".join(contest.paths)],
        ["seeds", ", ".join(map(str, data["seeds"]))],
        ["commit", ", ".join(commits) or "not told"],
        ["devices", "; ".join(devices) or "not told"],
        ["started", " to ".join(dict.fromkeys(data["started"])) or "not told"],
    ]
    rows.append(["versions", ", ".join(map(_version, data["versions"].items()))])
    told_of = data["commands"][:3]
    rows += [["a run's command", command] for command in told_of]
    if more := len(data["commands"]) - len(told_of):
        rows.append(["", f"and {more} other commands, in comparison.json"])
    reading = (
        "All numbers of this page are made from the run folders by the first command; "
        "comparison.json beside it has them with all digits."
    )
    if len(commits) > 1:
        reading += " The runs are of more than one commit: the code was not the same."
    table = Table(["what", "value"], rows, wide=("value",))
    return Section("provenance", "Where this is from", reading, data, [table])


def _version(item: tuple[str, list[str]]) -> str:
    return f"{item[0]} {' and '.join(item[1])}"


def _each(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value != "None"))


def _commit(launch: dict[str, Any]) -> str:
    commit = str(launch.get("commit"))[:12]
    return f"{commit} and changes to it" if launch.get("dirty") else commit
