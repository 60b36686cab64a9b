r"""Makes untrusted text safe to show on a terminal, which then obeys no control sequence in it.

A trace holds what programs printed and what strangers wrote. Colors and cursor movements are removed. Every
other control character is shown as its escape, and so are the marks that change the direction of writing.
"""

import re

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,16}[@-~]"  # colors, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # titles, links, the clipboard
    r"|\x1b[ -/]{0,16}[0-~]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    r"""Return a text in which the only control characters are line ends and tabs.

    >>> plain("\x1b[31mred\x1b[0m\r\nbell\x07")
    'red\nbell\\x07'
    """
    text = _SEQUENCE.sub("", text.replace("\r\n", "\n"))
    return _CONTROL.sub(_escape, text.replace("\r", "\n"))


def one_line(text: str, most: int) -> str:
    r"""Return the first characters of a text on one line, and how many more there are.

    >>> one_line("a  b\nc", 60), one_line("x" * 70, 60)[-25:]
    ('a b c', 'xxx… (10 more characters)')
    """
    prefix = " ".join(plain(text[: 4 * most]).split())
    if len(prefix) <= most and len(text) <= 4 * most:
        return prefix
    shown = prefix[:most]
    return f"{shown}… ({max(len(text) - most, 1):,} more characters)"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
