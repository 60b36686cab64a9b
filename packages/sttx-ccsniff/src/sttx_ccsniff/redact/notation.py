"""Decides from what stands around a name and its value whether the value is literal, not code.

In `DB_PASSWORD=x`, `--set db.password=x`, `host=h;password=x` and `my password is x` it is. Judges no values.
"""

import re

from sttx_ccsniff.redact import extent

QUOTES = ('"', "'", "`", "*")
_NEAR = 100  # characters before a name that are searched
_SETS = re.compile(
    r"(?:^|[\s\"'`])(?:ENV|ARG|setx|setenv|set(?: -\w{1,4}){1,2}|#define|configure set"
    r"|config(?: --?[\w-]{1,20}){0,2}(?: set)?(?: --?[\w-]{1,20}){0,2}) (?:[\w./:-]{0,80}[/:])?\Z"
)
_LINE_START = re.compile(
    r"(?:^|\n|→|[;&(])[ \t]*(?:[-+*>][ \t]*)?"
    r"(?:export[ \t]+|set[ \t]+|ENV[ \t]+|ARG[ \t]+|-e[ \t]+)?[\"'*`\w.-]{0,4}\Z"
)
_OPENS_LINE = re.compile(r"(?:^|\n|→)[ \t]*(?:\d{1,4}[:|][ \t]?)?[\"'`*]?\Z|[\"'`]\Z")
_WORD_START = re.compile(r"(?:^|[\s\"'`:=])\Z")
# What a shell passes on as it is: `NAME=x` after a flag or a command that sets something.
_SHELL = re.compile(
    r"(?:^|[\s\"'`;(])(?:--?[A-Za-z][\w-]{0,30}[ =]|(?:env|export|setenv|ENV|ARG)[ =]"
    r"|(?:put|write|patch|POST|PUT|PATCH|config:set|config set|secrets set) (?:[^\s\"'`]{1,80} ){0,3})"
    r"[\"']?\Z"
)
# The pairs around a name and its value in `host=x password=y dbname=z`, also with `;` or `,` between them.
_PAIR_BEFORE = re.compile(
    r"(?<![\w.])[A-Za-z_]\w{0,30} ?= ?(?:'[^'\n]{0,60}'|[^\s\"'`,;(){}]{1,60}) {1,2}\Z"
    r"|(?<![^\s\"'`;,=?(])[A-Za-z_][\w .-]{0,30}=(?:\{[^{}\n]{0,40}\}|[^\"'`;()\n]{1,80});[ ]?\Z"
    r"|(?:^|[\s\"'`=])(?:[A-Za-z_][\w.-]{0,30}=[^\s\"'`,;(){}]{1,60},)+\Z"
)
_PAIR_AFTER = re.compile(
    r" {1,2}[A-Za-z_]\w{0,30} ?=(?![=>]) ?[^\s=]"
    r"|;[ ]?[A-Za-z][\w ]{0,30}=[^\s=]"
    r"|,[A-Za-z_][\w.-]{0,30}=[^\s=(]"
)
_OWNER = re.compile(
    r"(?i)(?<![\w$@.])(?:(?:my|our|his|her|their|initial|default) (?:[\w-]{1,20} ){0,2}"
    r"|(?:admin|root|temporary|generated|new|wifi|master|database|db|user|login|sudo) )\Z"
)
_USES = re.compile(
    r"(?i)(?<![\w$@.])(?:use|uses|using|with|and|my|our|his|her|their|try) (?:the |a )?(?:[\w-]{1,20} )?\Z"
)
_SETTING = re.compile(
    r"(?i)(?<![\w$@.])(?:set|sets|setting|chang|reset|updat|rotat|switch|mak)[a-z]{0,5} [^.\n]{0,40}\Z"
)
_IN_LIST = re.compile(r"(?:[\[,]\s{0,8}|[\w-] )[\"']\Z")
_XML_NAME = re.compile(r"[ <](?:key|name)=[\"']\Z")
_CELL = re.compile(r"\|[ ]{0,8}[\"'`*]{0,3}\Z")
_NO_WORDS = re.compile(r"[\n=|<>&;`]| [-/]")  # what a command has after `NAME=x`
_USER = re.compile(r"(?i)(?:user|login|email|mail|account|uid)[\w-]{0,12}[\"'`]?\s{0,4}[:=]")


def is_set(text: str, start: int) -> bool:
    """Return whether a command before a name sets its value, which a space precedes: `ENV PASSWORD x`."""
    return _SETS.search(text, max(0, start - _NEAR), start) is not None


def is_flag(text: str, start: int, end: int, name: str) -> bool:
    """Return whether a name is a flag, such as `--password`."""
    before = text[start - 1 : start]
    if before == "/":  # a flag of Windows
        return text[max(0, start - 2) : start - 1] in ("", " ") and text[end : end + 1] in (":", "=")
    return name.startswith("-") and not before.isalnum()


def around(text: str, start: int, operator: re.Match[str]) -> str:
    """Return the character in front of a name, unless the same follows it: perhaps a quote around a pair."""
    before = text[max(0, start - 1) : start]
    return "" if before and operator[0].startswith(before) else before


def is_quoted_pair(text: str, start: int, operator: re.Match[str], end: int) -> bool:
    """Return whether quotes are around a name and its value, which ends there: `"password=x"`."""
    before = around(text, start, operator)
    return before in (*QUOTES, "|") and text[end : end + 1] == before


def closing(text: str, start: int, operator: re.Match[str], end: int) -> int:
    """Return where a pair such as `"DB_PASSWORD=two words"` or `;Password=two words;` ends, or 0.

    Args:
        text: The text.
        start: Where the name starts.
        operator: What follows the name.
        end: Where the first word of the value ends.
    """
    before = around(text, start, operator)
    if operator[0] != "=" or before not in ("'", '"', ";") or text[end : end + 1] != " ":
        return 0
    found = text.find(before, end, end + _NEAR)
    return found if found > 0 and _NO_WORDS.search(text, end, found) is None else 0


def is_literal(text: str, start: int, operator: re.Match[str], name: str, span: tuple[int, int]) -> bool:
    """Return whether an unquoted value is literal: in a shell, in a URL, in pairs such as `a=b c=d`."""
    if operator["sign"] != "=":
        entry = operator["entry"] or ""
        return operator["sign"] == ":-" or operator["element"] is not None or "\n" in entry or "=" in entry
    before = text[start - 1 : start]
    if (
        is_quoted_pair(text, start, operator, span[1])
        or before in ("?", "&")
        or _PAIR_AFTER.match(text, span[1])
    ):
        return True
    if operator.end() == operator.start() + 1 and (name.isupper() or _in_shell(text, start)):
        return True
    if is_no_call(text, start, operator, name, span[1]):
        return True
    return _PAIR_BEFORE.search(text, max(0, start - _NEAR), start) is not None


def is_no_call(text: str, start: int, operator: re.Match[str], name: str, end: int) -> bool:
    """Return whether a value such as `Summer(2024)` cannot be a call, because of where it stands.

    It is the value of a variable of the environment, of a flag, or of a pair in a connection string.
    """
    if operator["sign"] != "=" or operator.end() != operator.start() + 1:
        return False
    if not _WORD_START.search(text, max(0, start - 1), start):
        return text[start - 1 : start] in "?&;" and text[end : end + 1] != ")"
    if (
        name.isupper()
        or _in_shell(text, start)
        or (is_quoted_pair(text, start, operator, end) and _IN_LIST.search(text, max(0, start - 20), start))
    ):
        return True
    return text[end : end + 1] == ";" and (name[0].isupper() or text[start - 1 : start] == ";")


def _in_shell(text: str, start: int) -> bool:
    return _SHELL.search(text, max(0, start - _NEAR), start) is not None


def stands_alone(text: str, start: int, sign: str | None) -> bool:
    """Return whether a name and its value, which ends the line, stand where a configuration has them."""
    before = text[start - 1 : start]
    own_line = _LINE_START.search(text, max(0, start - 40), start) is not None
    return own_line or before in QUOTES or (sign in (":", "：", "-", "–", "—") and before.isspace())


def is_own_line(text: str, start: int, end: int) -> bool:
    """Return whether a name and its value are alone on a line, or on the first or last one of a string."""
    return _OPENS_LINE.search(text, max(0, start - 40), start) is not None and not extent.goes_on(text, end)


def is_spoken(text: str, start: int, operator: re.Match[str]) -> bool:
    """Return whether a sentence says what a password is: `my password = x`, `set the password to x`."""
    if operator["to"] or operator["sign"]:
        before = _SETTING if operator["to"] else _OWNER
        return before.search(text, max(0, start - _NEAR), start) is not None
    return operator["is"] is not None or operator["cell"] is not None


def is_out_of_place(text: str, start: int, operator: re.Match[str]) -> bool:
    """Return whether a name is outside of such a sentence or a table, unlike what follows it."""
    if operator["to"]:
        return _SETTING.search(text, max(0, start - _NEAR), start) is None
    if operator["element"] and operator["element"][0] != "<":
        return _XML_NAME.search(text, max(0, start - 20), start) is None
    return operator["cell"] is not None and _CELL.search(text, max(0, start - 20), start) is None


def is_used(text: str, start: int) -> bool:
    """Return whether a sentence names a password to use: `log in with password x`."""
    return _USES.search(text, max(0, start - _NEAR), start) is not None


def has_user(text: str, start: int) -> bool:
    """Return whether a user's name is in front of a name: `user: "a", pass: "x"`."""
    return _USER.search(text, max(0, start - _NEAR), start) is not None
