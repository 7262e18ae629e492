"""One run: the step, the loop, checkpoints, and the one place where all parts meet."""
