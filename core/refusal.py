"""A user's mistake as one line: the key, its value, what is allowed, the nearest match.

Imports nothing heavy: a typing mistake is answered before JAX has started.
"""

import contextlib
import difflib
import traceback
from collections.abc import Collection, Iterator

LIMIT = 200  # characters of the line that a user reads


class Refused(ValueError):
    """Config, command line or data are wrong; found before the first step."""


@contextlib.contextmanager
def preparing(until: Collection[str] = ()) -> Iterator[None]:
    """Inside, a `ValueError` or `OSError` of one line is the user's, and is `Refused`.

    In more than one line (no message of ours has two), or raised inside one of the
    functions `until`, dotted names after which preparation is over, it is a bug and
    keeps its traceback.
    """
    try:
        yield
    except Refused:
        raise
    except (ValueError, OSError) as error:
        frames = traceback.walk_tb(error.__traceback__)
        passed = {
            f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
            for frame, _ in frames
        }
        if "\n" in text_of(error) or isinstance(error, BrokenPipeError):
            raise
        if passed & set(until):
            raise
        raise Refused(one_line(text_of(error))) from error


def text_of(error: Exception) -> str:
    """The message of `error`; of a file that cannot be used, its name and why."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{shown(str(error.filename), 120)}: {error.strerror}."
    return str(error) or type(error).__name__


def one_line(text: str, limit: int = LIMIT) -> str:
    """`text` without line breaks, cut to `limit` characters.

    >>> one_line("a long story", limit=9)
    'a long...'
    """
    text = " ".join(text.splitlines())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown(value: object, limit: int = 48) -> str:
    """`repr(value)`, its middle left out where it is long.

    >>> shown("adam"), shown("abcdefghijkl", limit=9)
    ("'adam'", "'ab...kl'")
    """
    text = repr(value)
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def short(key: str, limit: int = 60) -> str:
    """A key or flag as typed, quoted if it has spaces, its middle left out if long."""
    text = shown(key, limit + 2)
    return text if " " in text else text[1:-1]


def listed(names: Collection[object], limit: int = 90) -> str:
    """The names in order, as many as fit.

    >>> listed(["lion", "adam"]), listed(["lion", "adam", "sgd"], limit=16)
    ("['adam', 'lion']", "['adam', and 2 more]")
    """
    names = sorted(map(str, names))
    whole, kept = str(names), len(names)
    while len(whole) > limit and kept > 1:
        kept -= 1
        whole = f"{str(names[:kept])[:-1]}, and {len(names) - kept} more]"
    return whole


def nearest(name: object, known: Collection[object]) -> str:
    """`" Did you mean 'adam'?"`, or nothing."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(name)[:100], known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
