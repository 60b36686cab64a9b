"""Templates with slots: `{name}` is replaced by a value drawn for `name`, until no slot is left.

A digit (`{name2}`) draws once more, `_l` (`{sentence_l}`) makes the first letter small, a capital
(`{Name}`) makes it large. This file knows nothing of what is drawn.
"""

import re
from collections.abc import Callable

_SLOT = re.compile(r"\{([A-Za-z][A-Za-z_]*?)(_l)?\d?\}")


class Literal(str):
    """Text that is inserted as it is: braces in it are not slots."""

    __slots__ = ()


def fill(template: str, draw: Callable[[str], str | None]) -> str:
    """Return the template with its slots filled, recursively.

    `draw` gives a template, a `Literal`, or None for a slot that it does not know, which is an error.

    >>> words = {"what": "{thing}s", "thing": Literal("{brace}")}
    >>> fill("Many {what}", words.get)
    'Many {brace}s'
    """

    def one(found: re.Match[str]) -> str:
        slot, small = found[1], found[2]
        drawn = draw(slot)
        large = drawn is None
        if drawn is None:
            drawn = draw(slot.lower())
        if drawn is None:
            raise KeyError(f"there is no value for the slot {found[0]} of {template!r}")
        text = drawn if isinstance(drawn, Literal) else fill(drawn, draw)
        if large:
            text = text[:1].upper() + text[1:]
        return lower_first(text) if small else text

    return _SLOT.sub(one, template)


def lower_first(text: str) -> str:
    """The text with a small first letter, unless it starts with an acronym or "I".

    >>> lower_first("It works."), lower_first("HTTP works."), lower_first("I see.")
    ('it works.', 'HTTP works.', 'I see.')
    """
    return text[0].lower() + text[1:] if text[1:2].islower() else text
