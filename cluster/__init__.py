"""Other machines: engines that start commands and jobs brought to their ends."""

from cluster.processes import Processes
from core.registry import Entry, Range

WORKERS = Range("[1, 4096]")

ENGINES = {
    "processes": Entry(Processes, "prctl(2), PR_SET_PDEATHSIG", {"workers": WORKERS}),
}
