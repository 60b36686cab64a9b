"""Finds secrets on a command line, after a flag whose name does not say so: `mysql -pX`, `curl -u user:X`.

`programs.toml` says which flags of which programs take one. A flag is searched first, then its program before
it in the same command.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

from sttx_ccsniff.redact.values import is_mixed, is_password, is_reference, is_stand_in, without_sign

_BACK = 600  # characters before a flag in which its program is searched
_MODES = ("word", "joined", "pair", "percent", "comma", "cookie")
_STRINGS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
# What ends a command; a line that starts with a flag continues it.
_BREAK = re.compile(r"[;|]|&&|(?<!\\)\n(?![ \t]*[-\\])")
# A shell's word: quoted parts and others; in a list, `["-p", "x"]`, one string.
_WORD = re.compile(
    r"""(?:'[^'\n]{0,1024}+'|"(?:[^"\\\n]|\\.){0,1024}+"|\$\([^()\n]{0,200}\)|\\[^\n]|[^\s'"\\]){1,1024}+"""
)
_GAP = re.compile(r"""(?P<listed>["'],\s{0,40}(?P<open>["']))|[ \t]*(?:\\?\n[ \t]*|[ \t]|=)[ \t]*|""")
_AFTER_SIGN = {"pair": ":", "percent": "%", "comma": ","}
_NAME = re.compile(
    r"(?<![\w.-])(?:(?<=\x1b\[)[\d;]{1,8}m)?(?P<name>[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*)(?=[\"']?[\s,])"
)
_PORTS = re.compile(r"[\d.:]*\d[\d:./-]*(?:tcp|udp)?|\d+[smhd]?")
_ELSEWHERE = ("file:", "env:", "fd:", "stdin", "@", "/", "./", "~/", "$(")
_COOKIE = re.compile(r"[\w.$-]{1,80}=(?P<secret>[^;\s\"']{6,4096}+)")


class _Use(NamedTuple):
    mode: str
    needs: tuple[str, ...]


class _Table(NamedTuple):
    flags: tuple[tuple[bytes, re.Pattern[bytes]], ...]
    programs: frozenset[str]
    uses: dict[tuple[str, str], list[_Use]]


@cache
def _table() -> _Table:
    """Read the table of programs; the flags' regexes, and what each flag of a program takes."""
    text = resources.files(__package__ or "").joinpath("programs.toml").read_text(encoding="utf-8")
    uses: dict[tuple[str, str], list[_Use]] = {}
    for table in tomllib.loads(text).values():
        needs = tuple(table.get("with", "").split())
        for mode in _MODES:
            for flag in table.get(mode, "").split():
                for name in table["names"].split():
                    uses.setdefault((name, flag), []).append(_Use(mode, needs))
    flags = sorted({flag for _, flag in uses}, key=len, reverse=True)
    regexes = tuple(
        (sign.encode(), _flag_regex(sign, flags, end)) for sign, end in (("-", ""), ("/", "[: ]"))
    )
    return _Table(regexes, frozenset(name for name, _ in uses), uses)


def _flag_regex(sign: str, flags: list[str], end: str) -> re.Pattern[bytes]:
    # The sign first, because a search for one byte is the fastest one.
    rests = "|".join(re.escape(flag[1:]) for flag in flags if flag[0] == sign)
    return re.compile(rf"{sign}(?<=[\s\"'(,`]{sign})(?:{rests})(?={end})".encode())


def find(text: str, plain: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each secret after a flag.

    Args:
        text: The text to search.
        plain: The same text, one byte per character.
    """
    table = _table()
    for sign, regex in table.flags:
        if sign not in plain:
            continue
        done = 0
        programs: _Programs | None = None
        for match in regex.finditer(plain):
            at = match.start()
            if at < done:
                continue
            programs = programs or _Programs(text, table.programs)
            flag, use = _use(text, at, match[0].decode(), table, programs.before(at))
            if use and (span := _secret(text, at + len(flag), flag, use.mode)):
                yield (*span, text[slice(*span)])
                done = span[1]


class _Programs:
    """Finds the last program before each of several positions, in ascending order."""

    def __init__(self, text: str, names: frozenset[str]) -> None:
        self._text, self._names = text, names
        self._last: re.Match[str] | None = None
        self._searched = 0

    def before(self, at: int) -> re.Match[str] | None:
        """Return the last program before a position, in the same line or one that it continues."""
        start = _command_start(self._text, at)
        for word in _NAME.finditer(self._text, max(start, self._searched), at):
            if word["name"].lower().removesuffix(".exe") in self._names:
                self._last = word
        self._searched = at
        return self._last if self._last and self._last.start() >= start else None


def _use(
    text: str, at: int, flag: str, table: _Table, program: re.Match[str] | None
) -> tuple[str, _Use | None]:
    """Return a flag and what it takes, by the program before it in its command."""
    if program is None:
        return flag, None
    name = program["name"].lower().removesuffix(".exe")
    while len(flag) > 2 and (name, flag) not in table.uses:
        flag = flag[:-1]  # `-pw` may be `-p` and the first letter of a password
    uses = table.uses.get((name, flag), [])
    between = text[program.end() : at]
    if not uses or _BREAK.search(_STRINGS.sub("", between) + flag):
        return flag, None
    words = [word.strip("\"',[]") for word in between.split()]
    fitting = (use for use in uses if not use.needs or not set(words).isdisjoint(use.needs))
    return flag, next(fitting, None)


def _command_start(text: str, at: int) -> int:
    """Return where the line of a flag starts, or the line that it continues."""
    low = max(0, at - _BACK)
    start = text.rfind("\n", low, at) + 1 or low
    while start > low and (text[start - 2] == "\\" or text[start:at].lstrip(" \t\"',[")[:1] in ("", "-")):
        at = start - 1
        start = text.rfind("\n", low, at) + 1 or low
    return start


def _secret(text: str, end: int, flag: str, mode: str) -> tuple[int, int] | None:
    """Return the span of the secret after a flag."""
    gap = _GAP.match(text, end)
    begin = gap.end() if gap else end
    is_joined = begin == end
    if flag[0] == "/" and text[begin : begin + 1] == ":":
        begin += 1
    elif (
        is_joined
        and (len(flag) > 2 and mode != "joined" or flag[0] == "/")
        or mode == "joined"
        and not is_joined
    ):
        return None
    elif mode == "word" and is_joined:
        mode = "joined word"
    opened = text[max(0, end - len(flag) - 1) : end - len(flag)]
    closing = gap["open"] if gap and gap["listed"] else opened if is_joined and opened in ("'", '"') else None
    if closing:
        stop = text.find(closing, begin, begin + 1024)
        span = (begin, stop) if stop > begin else None
    else:
        word = _WORD.match(text, begin)
        span = _unquoted(text, *word.span()) if word else None
    return _part(text, *span, mode) if span else None


def _unquoted(text: str, begin: int, end: int) -> tuple[int, int]:
    """Return a word's span without the quotes around it and the punctuation after it."""
    while end > begin and text[end - 1] in ";,)|&`]" and text[begin] not in "\"'":
        end -= 1
    if end - begin > 1 and text[begin] in "\"'" and text[end - 1] == text[begin]:
        return begin + 1, end - 1
    return begin, end


def _part(text: str, begin: int, end: int, mode: str) -> tuple[int, int] | None:
    """Return the span of the part of a word that is the secret, if it is one."""
    word = text[begin:end]
    is_fixed = text[begin - 1] == "'"  # a shell expands nothing there
    if mode == "cookie":
        match = _COOKIE.search(word)
        return (begin + match.start("secret"), end) if match else None
    if sign := _AFTER_SIGN.get(mode):
        user, found, secret = word.partition(sign)
        if not found or "/" in user or not user.strip("\"'"):
            return None
        begin += len(user) + 1
        if mode == "pair" and "@" in secret and "/" not in secret.rpartition("@")[2]:
            secret = secret.rpartition("@")[0] if re.fullmatch(r".*@[\w.-]+:\d+", secret) else secret
            end = begin + len(secret)
    elif word.startswith(("pass:", "key:")):
        begin += len(word.partition(":")[0]) + 1
    secret = without_sign(text[begin:end]) if is_fixed else text[begin:end]
    is_sure = text[begin - 1] in "\"':%" and is_mixed(secret)
    if len(secret) < 3 or (secret[0] == "-" and not is_sure) or _PORTS.fullmatch(secret) and len(secret) < 8:
        return None
    if is_reference(secret) or (secret.startswith(_ELSEWHERE) and not is_sure):
        return None
    if is_stand_in(secret) or (secret.isalpha() and secret.isupper()):  # `-p PASSWORD` documents the flag
        return None
    return (begin, end) if mode != "joined word" or is_password(secret) else None
