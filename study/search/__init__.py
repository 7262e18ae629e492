"""Ways to search a space: which points to run, and which runs are worth more steps.

A space is searched by its grid, or drawn from by one of `DRAWS` before anything has
run; `tpe` reads what has run so far, and `halving` ends what goes badly.
"""

from study.search.draws import halton, random, sobol

DRAWS = {"random": random, "halton": halton, "sobol": sobol}
