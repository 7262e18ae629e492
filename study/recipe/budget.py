"""A budget of wall time: its words, what a stage costs, and how much of one fits in.

What a trial costs was measured: first by a pilot, then by the stages that have ended.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from core.refusal import shown

EXAMPLE = "--budget=30m"
WORDS = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
SLACK = 1.2  # of what was measured: what follows may cost more


class Cost(NamedTuple):
    """The seconds of compiling a program, and of a round: a trial on each device."""

    compile_seconds: float
    round_seconds: float
    num_devices: int

    def seconds(self, programs: Sequence[int]) -> float:
        """What programs of so many trials each will take.

        >>> Cost(10.0, 2.0, num_devices=2).seconds([4, 1])
        31.2
        """
        rounds = num_rounds(programs, self.num_devices)
        compiling = len(programs) * self.compile_seconds
        return SLACK * (compiling + rounds * self.round_seconds)


def num_rounds(programs: Sequence[int], num_devices: int) -> int:
    """How often each device has a trial, where programs have so many trials each.

    >>> num_rounds([4, 1], num_devices=2)
    3
    """
    return sum(-(-trials // num_devices) for trials in programs)


def seconds_of(text: str) -> int:
    """What the words of a budget are in seconds.

    Raises:
      ValueError: they are none, or no time at all.

    >>> seconds_of("90s"), seconds_of("1h30m")
    (90, 5400)
    """
    if not text:
        raise ValueError(f"recipe needs --budget=TIME, such as {EXAMPLE}.")
    found = WORDS.fullmatch(text)
    hours, minutes, seconds = (
        (int(x or 0) for x in found.groups()) if found else [0] * 3
    )
    whole = 3600 * hours + 60 * minutes + seconds
    if not whole:
        raise ValueError(
            f"--budget={shown(text)} must be a time above 0 in hours, minutes and "
            f"seconds, such as 90s, 1h30m or {EXAMPLE}."
        )
    return whole


def told(seconds: float) -> str:
    """Seconds as a budget is written, rounded up.

    >>> told(89.5), told(3600), told(5405)
    ('1m30s', '1h', '1h30m5s')
    """
    whole = -int(-seconds // 1)
    parts = (whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
