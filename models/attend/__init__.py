"""Attention: one function, several implementations, chosen by platform and shape."""

from typing import Literal

from models.attend import plain

Implementation = Literal["auto", "plain"]


def attend(query_BLHK, key_BMGK, value_BMGK, mask, *, implementation="auto", **options):
    """See `models/attend/plain.py`."""
    del implementation
    return plain.attend(query_BLHK, key_BMGK, value_BMGK, mask, **options)
