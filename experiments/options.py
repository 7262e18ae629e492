"""The part of `--config=experiments/NAME.py:tiny,rule=lion` after the colon."""

import difflib
from typing import Any

WORDS = {"true": True, "false": False}


def parse(text: str, **defaults: Any) -> dict[str, Any]:
    """Options named in `text` over `defaults`, each with its default's type.

    A tuple of words is a choice, the first its default. A switch (`tiny=False`) is
    turned on by its name alone.

    Raises:
      ValueError: an option that is not there, is there twice, or has a wrong value.

    >>> parse("tiny,width=64", tiny=False, width=512, rule=("adam", "lion"))
    {'tiny': True, 'width': 64, 'rule': 'adam'}
    """
    chosen = {}
    for item in text.split(",") if text else ():
        name, given, value = item.partition("=")
        if name not in defaults:
            raise ValueError(
                f"No option {name[:60]!r}. This config has {sorted(defaults)}."
                f"{_nearest(name, defaults)}"
            )
        if name in chosen:
            raise ValueError(f"Option {name} is given twice.")
        chosen[name] = _read(name, value if given else None, defaults[name])
    return {
        name: chosen.get(name, default[0] if isinstance(default, tuple) else default)
        for name, default in defaults.items()
    }


def _read(name: str, text: str | None, default: Any) -> Any:
    """`text` as a value of the default's kind; None where only the name was given."""
    if isinstance(default, bool):
        if text is not None and text not in WORDS:
            raise ValueError(f"Option {name}={text[:60]!r} must be true or false.")
        return text is None or WORDS[text]
    if not text:
        example = default[0] if isinstance(default, tuple) else default
        raise ValueError(f"Option {name} needs a value, such as {name}={example}.")
    if isinstance(default, tuple):
        if text not in default:
            raise ValueError(
                f"Option {name}={text[:60]!r} is not one of {sorted(default)}."
                f"{_nearest(text, default)}"
            )
        return text
    if isinstance(default, str):
        return text
    kind = "an integer" if isinstance(default, int) else "a float"
    try:
        value = type(default)(text)
    except ValueError:
        value = None
    if value is None or value != value or not text.isascii():
        raise ValueError(f"Option {name}={text[:60]!r} must be {kind}.")
    return value


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(name[:100], known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
