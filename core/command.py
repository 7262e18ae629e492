"""The words of a command line: `COMMAND --option=VALUE --config.KEY=VALUE ...`.

Strict where argparse is lenient: no abbreviations, nothing given twice, every word is
an option with its `=`, and what is refused is one line with the nearest match.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from core.refusal import listed, nearest, short, shown

OVERRIDE, ANY_KEY = "--config.", "config.KEY"
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"  # what editors make of one


class Option(NamedTuple):
    """`--name=VALUE`, or a switch where there is no `value`; `many` may be repeated."""

    text: str
    value: str = ""
    needed: bool = False
    many: bool = False


class Command(NamedTuple):
    """One line of `COMMANDS`; `run(**options)` has an underscore for each dash.

    A command with `places` takes words that are no options: it gets them by that name.
    """

    run: Callable[..., None]
    options: Mapping[str, Option]
    example: str
    places: str = ""


def parse(
    name: str, command: Command, words: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The options of the command called `name`, and the config's overrides.

    An option's dashes become underscores; one that may be repeated becomes a tuple.

    Raises:
      ValueError: a word that is no option of it, comes twice, or lacks its value.
    """
    takes = command.options
    chosen: dict[str, Any] = {}
    overrides: dict[str, str] = {}
    places = [word for word in words if command.places and word[:1] not in DASHES]
    if command.places:
        if not places and command.places[0] != "[":
            raise ValueError(f"{name} needs a {command.places.rstrip('.')}.")
        chosen["places"] = tuple(places)
    for word in words:
        if word in places:
            continue
        flag, equals, value = word.partition("=")
        override = flag.startswith(OVERRIDE) and ANY_KEY in takes
        option = takes.get(ANY_KEY if override else flag[2:])
        if option is None or not flag.startswith("--"):
            raise ValueError(_no_option(name, takes, word))
        if flag == OVERRIDE:
            raise ValueError(f"{shown(word)} names no key: {OVERRIDE}KEY=VALUE.")
        key = flag.removeprefix(OVERRIDE) if override else flag[2:].replace("-", "_")
        _check_value(flag, equals, value, option, override)
        seen: dict[str, Any] = overrides if override else chosen
        if key in seen and not (option.many and value not in seen[key]):
            raise ValueError(f"{short(flag)} is given twice.")
        if option.many:
            seen[key] = (*seen.get(key, ()), value)
        else:
            seen[key] = value if option.value else True
    for flag, option in takes.items():
        if option.needed and flag not in chosen:
            raise ValueError(f"{name} needs --{flag}={option.value}.")
    return chosen, overrides


def _check_value(flag: str, equals: str, value: str, option: Option, override: bool):
    """Raises ValueError unless `flag` has a value just where it takes one."""
    if not option.value:
        if equals:
            raise ValueError(f"{flag} takes no value, and has {shown(value)}.")
    elif not value:
        wish = "; an empty text is written ''" if override and equals else ""
        raise ValueError(f"{short(flag)} needs a value: {short(flag)}=VALUE{wish}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{short(flag)}={shown(value)} is no UTF-8.") from error


def _no_option(name: str, takes: Mapping[str, Option], word: str) -> str:
    """The line for a word that the command does not take."""
    flag, _, _ = word.partition("=")
    fixed = "--" + word.lstrip(DASHES)
    known = [f"--{option}" for option in takes if option != ANY_KEY]
    if fixed != word and (
        fixed.partition("=")[0] in known
        or (fixed.startswith(OVERRIDE) and ANY_KEY in takes)
    ):
        return f"{shown(word, 60)} is no option. Did you mean {shown(fixed, 60)}?"
    _, dot, key = flag.partition(".")
    meant = [*known, OVERRIDE + key] if dot and ANY_KEY in takes else known
    return (
        f"{shown(word, 60)} is no option of {name}.{nearest(short(flag), meant)} "
        f"It takes {listed(known)}."
    )


def choose(word: str, commands: Mapping[str, Command]) -> Command:
    """The command that the first word names.

    Raises:
      ValueError: there is none of that name.
    """
    if word not in commands:
        raise ValueError(
            f"{shown(word, 60)} is no command.{nearest(word, commands)} "
            f"There are {listed(commands)}; one of them comes first."
        )
    return commands[word]


def overview(commands: Mapping[str, Command]) -> str:
    """What `--help` says of the program."""
    lines = [f"  {name:10} {_sentence(c)}" for name, c in commands.items()]
    example = next(iter(commands.values())).example
    return "\n".join(
        [
            "usage: python launch.py COMMAND --help",
            "",
            *lines,
            "",
            f"example: {example}",
        ]
    )


def explain(name: str, command: Command) -> str:
    """What `--help` says of one command."""
    spelled = {
        f"--{flag}{'=' * bool(option.value)}{option.value}": option.text
        for flag, option in command.options.items()
    }
    width = max(map(len, spelled))
    lines = [f"  {flag:{width}}  {text}" for flag, text in spelled.items()]
    places = f"{command.places} " if command.places else ""
    usage = f"usage: python launch.py {name} {places}--OPTION=VALUE ..."
    return "\n".join(
        [usage, "", _sentence(command), "", *lines, "", f"example: {command.example}"]
    )


def _sentence(command: Command) -> str:
    return (command.run.__doc__ or "").partition("\n")[0]
