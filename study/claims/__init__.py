"""Published findings, run and judged: what `python launch.py claims` does."""

from study.claims.running import run

__all__ = ["run"]
