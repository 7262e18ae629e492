"""Other machines: engines that start commands and jobs brought to their ends."""

from cluster.processes import Processes
from cluster.ray import Ray
from cluster.render import gcloud, jobset, skypilot
from cluster.slurm import Slurm
from core.registry import Entry, Range

WORKERS = Range("[1, 4096]")
SHARE = Range("[0, 4096]")
RESTARTS = Range("[0, 1000000]")

ENGINES = {
    "processes": Entry(Processes, "prctl(2), PR_SET_PDEATHSIG", {"workers": WORKERS}),
    "slurm": Entry(Slurm, "https://slurm.schedmd.com/sbatch", {"workers": WORKERS}),
    "ray": Entry(
        Ray,
        "https://docs.ray.io/en/latest/cluster/running-applications/job-submission",
        {"workers": WORKERS, "cpus": SHARE, "gpus": SHARE},
    ),
}

# What gives a command to a cluster that goes on by itself; `job`, `command` and `path`,
# where the text goes, are not configured.
RENDERINGS = {
    "jobset": Entry(jobset, "https://jobset.sigs.k8s.io", {"max_restarts": RESTARTS}),
    "skypilot": Entry(skypilot, "https://docs.skypilot.co"),
    "gcloud": Entry(gcloud, "https://cloud.google.com/sdk/gcloud/reference"),
}
