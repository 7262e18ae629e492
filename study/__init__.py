"""Many runs: search spaces, trials in one program, statistics, comparison, claims."""
