"""Finds values assigned to a name such as `password` or `api_key`, in any common notation.

`PASSWORD=x`, `"api_key": "x"`, `--token x`, `<secret>x</secret>`, `{"name": "DB_PASSWORD", "value": "x"}`.
`shapes` decides which names and values count.
"""

import re
from collections.abc import Iterator

from sttx_ccsniff.redact.shapes import is_password, is_password_name, is_random_secret, is_secret_name

_MAX_NESTED = 4
_STEMS = (b"pass", b"pwd", b"secret", b"token", b"key", b"credential")
_WORD_BEFORE = re.compile(r"([A-Za-z]{2,20}) \Z")
_BEFORE = re.compile(r"[A-Za-z0-9_.-]{0,60}\Z")
# What follows the stem: the rest of the name, its quote, an operator, and the start of the value.
_OPERATOR = re.compile(
    r"""(?P<rest>[A-Za-z0-9_]{0,40})
    (?:
        ["'\]`]{0,3} [ \t]{0,8} (?P<sign> => | :=? | ={1,3} | !=)
        (?: [ \t]{0,8} (?:str|string|String|&str|&'static\ str) [ \t]{0,8} = )? \s{0,8}
      | [ ]is[ ]{1,2}
      | (?P<close>>)
      | (?P<space>[ \t]{1,4})
      | ["']? [ \t]{0,8} ,? \s{0,40} ["']? value ["']? [ \t]{0,8} : [ \t]{0,8}
    )
    (?:[rbuf](?=["']))?
    (?P<quote>["'`])?
    """,
    re.VERBOSE,
)
_QUOTED = {quote: re.compile(rf"[^{quote}\s\\]{{1,1024}}+(?={quote})") for quote in "\"'`"}
_TO_LINE_END = re.compile(r"""[^\s"'`]{1,1024}+(?=[ \t]*(?:\r?\n|\Z|&&|\||;|\\))""")
_WORD = re.compile(r"""[^\s"'`]{1,1024}+""")
_SHELL = re.compile(r"""[^\s"'`;&|<>()]{1,1024}+""")
_SETS = re.compile(r"(?:^|\s)(?:ENV|setenv) \Z")
_BARE = re.compile(r"""[^\s"'`,;(){}\[\]<>&|\\]{1,1024}+(?![(\[{])""")
_LINE_START = re.compile(
    r"(?:^|\n|→|[;&(])[ \t]*(?:[-+][ \t]*)?(?:export[ \t]+|set[ \t]+|ENV[ \t]+|ARG[ \t]+|-e[ \t]+)?\Z"
)


def find(text: str, low: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each secret value.

    Args:
        text: The text to search.
        low: The same text in lower case, one byte per character.
    """
    for stem in _STEMS:
        at = low.find(stem)
        rejected, until = 0, 0  # overlapping values rejected in a row, and the end of the last one
        while at >= 0:
            end = at + len(stem)
            operator = _OPERATOR.match(text, end)
            value, is_secret = _value(text, at, operator) if operator else (None, False)
            if value and is_secret:
                yield (*value.span(), value[0])
                end = value.end()
            elif value:
                # Skip ahead in a text of nested assignments: checking each value to its end is quadratic.
                rejected = rejected + 1 if at < until else 0
                until = max(until, value.end())
                end = until if rejected > _MAX_NESTED else end
            at = low.find(stem, end)


def _value(text: str, at: int, operator: re.Match[str]) -> tuple[re.Match[str] | None, bool]:
    """Return the value, if the name is a secret's name, and whether it looks like a secret."""
    before = _BEFORE.search(text, max(0, at - 60), at)
    start = before.start() if before else at
    name = text[start : operator.end("rest")]
    if name.lower() == "key" and (word := _WORD_BEFORE.search(text, max(0, start - 24), start)):
        name = f"{word[1]}_{name}"
    if not is_secret_name(name):
        return None, False
    if operator["space"] is not None and not (
        name.startswith("--") or _SETS.search(text, max(0, start - 8), start)
    ):
        return None, False
    if operator["close"] is not None and text[start - 1 : start] != "<":
        return None, False
    quote = operator["quote"]
    if quote:
        return _checked(_QUOTED[quote].match(text, operator.end()), name, literal=True)
    if name.startswith("--") or operator["space"]:
        return _checked(_WORD.match(text, operator.end()), name, literal=True)
    if operator["sign"] == "=" and name.isupper() and operator.end() == operator.end("rest") + 1:
        return _checked(_SHELL.match(text, operator.end()), name, literal=True)
    own_line = _LINE_START.search(text, max(0, start - 40), start) is not None
    own_line = own_line or (operator["sign"] == ":" and text[start - 1 : start].isspace())
    if own_line and (result := _checked(_TO_LINE_END.match(text, operator.end()), name, literal=True))[1]:
        return result
    return _checked(_BARE.match(text, operator.end()), name, literal=operator["close"] is not None)


def _checked(value: re.Match[str] | None, name: str, *, literal: bool) -> tuple[re.Match[str] | None, bool]:
    """Return a value and whether it is a secret; `literal`: by its notation it cannot be a variable."""
    if value is None:
        return None, False
    secret = value[0]
    weak = literal and (is_password_name(name) or name.lower().endswith("secret"))
    return value, is_password(secret) if weak else is_random_secret(secret)
