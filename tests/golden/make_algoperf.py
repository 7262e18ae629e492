"""Makes algoperf.csv.gz and sparse_t5.csv, the public numbers that two fits rest on.

    STEEPEST_DATA=FOLDER python tests/golden/make_algoperf.py

FOLDER holds `algoperf_trials.csv.gz` (from the logs of
github.com/mlcommons/submissions_algorithms, Apache-2.0) and `sparse_t5.csv` (from
github.com/google-research/jaxpruner, projects/bigsparse, Apache-2.0). Of the first, the
trials stay that a published score depends on, to a hundredth of a second.
"""

import csv
import gzip
import io
import os
import pathlib

from study.algoperf import BASE, COLUMNS, HELD_OUT, Trial, read_trials

HERE = pathlib.Path(__file__).parent
SCORED = {
    ("algoperf_v05", "external_tuning"),
    ("algoperf_v05", "self_tuning"),
    ("algoperf_v06", "external_tuning"),
}


def counts(trial: Trial) -> bool:
    """Whether a published score depends on it."""
    workloads = {*BASE, *HELD_OUT[trial.version].values()}
    return trial[:2] in SCORED and trial.workload in workloads


def main():
    """Writes the files beside this one."""
    folder = pathlib.Path(os.environ["STEEPEST_DATA"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for trial in filter(counts, read_trials(folder / "algoperf_trials.csv.gz")):
        writer.writerow((*trial[:6], f"{trial.seconds:.2f}", trial.eval_index))
    packed = gzip.compress(text.getvalue().encode(), mtime=0)
    (HERE / "algoperf.csv.gz").write_bytes(packed)

    rows = (folder / "sparse_t5.csv").read_text(encoding="utf-8").splitlines()
    kept = [line.split(",", 1)[1] for line in rows]  # without the index
    (HERE / "sparse_t5.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
