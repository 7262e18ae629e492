"""The commands over many runs and many machines, by their names."""

from study.commands.judging import JUDGING
from study.commands.submitting import SUBMITTING
from study.commands.training import TRAINING

STUDY = TRAINING | JUDGING | SUBMITTING
