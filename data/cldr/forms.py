"""Forms: ways of writing a value, and the rule that keeps them unambiguous.

A pair is a value written in one form in two locales. What the reader of the source
cannot know must not be in the target, so a form says both times the same of its value,
and no source text has two readings.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple


class Pair(NamedTuple):
    """One example, and the atoms (months, units, names) that it takes to know it."""

    source: str
    target: str
    atoms: tuple[str, ...]


class Form(NamedTuple):
    """A way of writing values.

    `sense(value)` is what the text says of the value: equal for two values that read
    alike. Only forms of one `group` may write one value alike.
    """

    name: str
    group: str
    sense: Callable[[Any], Hashable]
    source: Callable[[Any], str]
    target: Callable[[Any], str]

    def read(self, value: Any) -> str:
        """The source's text as a keyboard types it: its special spaces are plain."""
        return self.source(value).translate(TYPED)


# No-break, narrow no-break and thin space, which CLDR writes and nobody types.
TYPED = dict.fromkeys(map(ord, "\u00a0\u202f\u2009"), " ")


def distinct(forms: Iterable[Form], probes: Sequence[Any]) -> list[Form]:
    """The forms under which no source text means two things, as far as probes show.

    A form is left out if one of its texts is already that of another sense: a locale
    that abbreviates minute and metre alike keeps the first of them.
    """
    kept, meaning = [], {}
    for form in forms:
        own = {}
        for value in probes:
            sense = (form.group, form.sense(value))
            text = form.read(value)
            if own.setdefault(text, sense) != sense:
                break
            if meaning.get(text, sense) != sense:
                break
        else:
            meaning.update(own)
            kept.append(form)
    return kept


class Topic:
    """Draws pairs: a form, a value, the two texts."""

    def __init__(
        self,
        forms: Sequence[Form],
        sample: Callable[[random.Random], Any],
        atoms: Callable[[Form, Any], tuple[str, ...]],
    ):
        self.forms, self.sample, self.atoms = forms, sample, atoms
        self.earlier: dict[str, list[Form]] = {}
        groups = defaultdict(list)
        for form in forms:
            self.earlier[form.name] = list(groups[form.group])
            groups[form.group].append(form)

    def draw(self, rng: random.Random) -> Pair | None:
        """A pair; None where an earlier form writes the source just so.

        ("May 5, 2024" is the long and the medium form: it is an example of the first.)
        """
        form, value = rng.choice(self.forms), self.sample(rng)
        source = form.read(value)
        if any(other.read(value) == source for other in self.earlier[form.name]):
            return None
        atoms = (form.name, *self.atoms(form, value))
        return Pair(source, form.target(value), atoms)
