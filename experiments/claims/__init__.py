"""Published findings, one file each: how it is tried, and what would confirm it."""
