"""Other machines: engines that start commands and jobs brought to their ends."""

from cluster.processes import Processes
from cluster.slurm import Slurm
from core.registry import Entry, Range

WORKERS = Range("[1, 4096]")

ENGINES = {
    "processes": Entry(Processes, "prctl(2), PR_SET_PDEATHSIG", {"workers": WORKERS}),
    "slurm": Entry(
        Slurm, "https://slurm.schedmd.com/sbatch.html", {"workers": WORKERS}
    ),
}
