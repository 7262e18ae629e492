"""How a run can end, as exit codes that a scheduler can act on."""

DONE, REFUSED, PREEMPTED, DATA, NUMERICS, STORAGE, HANG = 0, 2, 75, 76, 77, 78, 79


class Stop(Exception):
    """Ends the run with `code`; its text is the one line that the user reads."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code = code
