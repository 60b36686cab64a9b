"""Finds values assigned to a name such as `password` or `api_key`, in any common notation.

`PASSWORD=x`, `"api_key": "x"`, `--token x`, `<secret>x</secret>`, `{"name": "DB_PASSWORD", "value": "x"}`,
`define('DB_PASSWORD', 'x')`, `пароль: x`. `names` decides which names count, `values` which values, and
`extent` where a value ends.
"""

import re
from collections.abc import Callable, Iterator

from sttx_ccsniff.redact import extent, notation
from sttx_ccsniff.redact.names import FOLDERS, FOREIGN_LATIN, name_kind, other_scripts
from sttx_ccsniff.redact.values import (
    is_alternating,
    is_mixed,
    is_password,
    is_random_secret,
    is_spoken_password,
    is_strong,
    without_sign,
)

Depth = Callable[[int], int]
"""Returns by how many backslashes the character at a position was escaped."""

Span = tuple[int, int, str]

_STEMS = frozenset((b"pass", b"pw", b"secret", b"token", b"key", b"cred", b"psk", b"auth", b"mdp", b"_pat="))
_FOREIGN = frozenset(word.encode() for word in FOREIGN_LATIN)
WORDS = (*_STEMS, *_FOREIGN)
"""Words, or parts of them, of which a secret's name in Latin letters has one."""

_MAX_NESTED = 4
_WORD_BEFORE = re.compile(r"([A-Za-z]{2,20}) \Z")
_BEFORE = re.compile(r"[A-Za-z0-9_.-]{0,60}\Z")
_OPEN = extent.OPEN
# In `"password": {"user": "a", "value": "x"}`, the part in front of the value.
_WITHIN = (
    r"""(?:\s{0,8}(?:\[\s{0,40})?\{\s{0,40}"""
    r"""(?:["']?[\w-]{1,30}["']?\s{0,4}:\s{0,4}(?:["'][^"'\n]{0,80}["']|[\w.-]{1,20}),\s{0,40}){0,4}?"""
    r"""|[ ]{0,4}\r?\n[ ]{1,40})"""
    r"""["']?_?(?:value|current|new|old|plain|plaintext|raw|secret|S)["']?\s{0,4}:\s{0,4}"""
)
_WRAPPERS = r"(?:new[ ])?(?:SecretStr|Secret|String|str|sensitive|Buffer\.from|\[\]byte)"
# What follows the stem: the rest of the name, its quote, an operator, and the start of the value.
_REST = re.compile(r"(?:[A-Za-z0-9_]|-(?=[A-Za-z])){0,40}")
_OPERATOR = re.compile(
    rf"""(?:
        ["'\]`)*?!]{{0,4}} (?:[ ](?:[Ss]tring|str|As[ ]String|\([\w .@-]{{1,30}}\)))? [ \t]{{0,20}}
        (?P<sign> => | :- | := | ->  | <-(?=[ ]?{_OPEN}) | → | (?<=[ ])[-–—](?=[ ]) | ={{1,3}} | != | ：
          | : (?![:]))
        [*_]{{0,2}} (?:[ \t]{{0,8}} (?:str|string|String|&str|&'static\ str|!!str|!<str>) [ \t]{{0,8}} =? )?
        (?:{_WITHIN}|\s{{0,8}}[\[({{]\s{{0,8}}(?={_OPEN})|[ ]?(?:{_WRAPPERS})\([ ]?(?={_OPEN})
          |\s{{0,8}}(?:[|>][+-]?[ ]?\n\s{{1,40}})?)
      | (?P<default>["'\]`)]{{0,3}}[ ](?:\|\||\?\?|or)[ ](?={_OPEN}))
      | (?P<is>["'`*]{{0,3}}(?:[ ](?:for|of|on|to|in|at)(?:[ ][\w.@/-]{{1,40}}){{1,3}}?)?
        [ ](?:(?:is|was|will[ ]be|has[ ]been|ist|lautet|est|es|è|é)(?:[ ](?:now|still|just))?
          |(?=set|changed|reset|updated))
        (?:[ ]?(?:set|changed|reset|updated)[ ]to)?
        (?:[ ]?:\s{{1,8}}|[ ]{{1,2}})[*_]{{0,2}})
      | (?P<to>["'`*]{{0,3}}[ ](?:to|as)[ ]{{1,2}}[*_]{{0,2}})
      | (?P<cell>["'`*]{{0,3}}[ ]{{1,20}}\|[ ]{{1,20}}[*]{{0,2}})
      | (?P<entry>["'`]? [ \t]{{0,8}} [,{{]? \s{{0,40}} ["']? (?i:(?:parameter_?)?(?:value|val|default)) ["']?
        [ \t]{{0,8}} [:=] [ \t]{{0,8}})
      | (?P<element></(?:key|name|td|th|dt)>\s{{0,40}}<\w{{2,9}}>|["'](?:[ ][^<>\n]{{0,60}})?>)
      | (?P<space>[ \t]{{1,20}})
      | (?P<next>["'`]?[ ]?,\s{{0,20}}(?={_OPEN})|\([ ]?(?={_OPEN})|["']\r?\n\r?\n
        |["']\]["'],[ ]?(?={_OPEN})
        |["'`\])/i]{{0,5}}\.(?:type|fill|send_?[kK]eys|set_?[vV]alue)\([ ]?(?={_OPEN}))
    )
    (?:\*\*)?(?:(?:[rbufN@]{{1,2}}|\$)(?={_OPEN}))?
    (?P<quote>{_OPEN})?
    """,
    re.VERBOSE,
)
_TAG = re.compile(r"(?:[ ][^<>\n]{0,80})?>(?:<!\[CDATA\[)?[ ]{0,8}(?P<quote>(?!))?")
_FOREIGN_OPERATOR = re.compile(
    rf"""(?P<rest>[\w\u0300-\u036f]{{0,12}}(?:[ ][\w\u0300-\u036f]{{1,16}}){{0,2}}?)
    ["'\]`»”*)]{{0,3}} [ \t]{{0,8}}
    (?P<sign>=>|:=?|={{1,3}}|→|->|：|[-–—](?=[ ])
        |(?<=[ ])(?:ist|est|es|é|è|er|är|on|is|to|jest|je|это)(?=[ ])|は|是|为|為|은|는|:)
    [*_]{{0,2}} \s{{0,8}} (?P<quote>{_OPEN})?
    """,
    re.VERBOSE,
)
_FOREIGN_SPACE = re.compile(rf"[\w\u0300-\u036f]{{0,12}}[ ]{{1,4}}(?P<sign>)(?P<quote>{_OPEN})?")


class Values:
    """Finds the values in one text.

    Args:
        text: The text to search.
        depth: If the text was escaped: by how many backslashes the character at a position was.
    """

    def __init__(self, text: str, depth: Depth | None = None) -> None:
        self._text = text
        self._depth = depth
        self._done = 0  # names before this position are within a value
        self._rejected, self._until = 0, 0  # overlapping values rejected in a row, and the end of the last

    def at(self, at: int, word: bytes) -> Span | None:
        """Return start, end and text of the value of a secret's name, if a stem of it is at this position.

        Args:
            at: The position; those of a text are given in ascending order.
            word: What was found there: one of `WORDS`, or something else.
        """
        if at < self._done:
            return None
        if word not in _STEMS:
            return self._foreign(at + len(word)) if word in _FOREIGN and self._starts_word(at) else None
        found = _value(self._text, at, at + len(word.rstrip(b"=")), self._depth)
        if found is None:
            return None
        start, end, is_secret = found
        if is_secret:
            self._done = end
            return start, end, self._text[start:end]
        # Skip ahead in a text of nested assignments: checking each value to its end is quadratic.
        self._rejected = self._rejected + 1 if at < self._until else 0
        self._until = max(self._until, end)
        if self._rejected > _MAX_NESTED:
            self._done = self._until
        return None

    def of_other_scripts(self) -> Iterator[Span]:
        """Yield the values of names that are not in Latin letters."""
        self._done = 0
        for end in other_scripts(self._text):
            if end >= self._done and (span := self._foreign(end)):
                yield span

    def _starts_word(self, at: int) -> bool:
        return not self._text[max(0, at - 1) : at].isalpha()

    def _foreign(self, end: int) -> Span | None:
        """Return the value after the word for a password in another language."""
        text = self._text
        operator = _FOREIGN_OPERATOR.match(text, end) or _FOREIGN_SPACE.match(text, end)
        if operator is None:
            return None
        quote = operator["quote"] or ""
        span = extent.value(text, operator.end(), quote, self._depth)
        secret = text[slice(*span)]
        self._done = max(self._done, span[1])
        if not operator["sign"]:
            return (*span, secret) if is_strong(secret) else None
        more = extent.is_cut_code(text, *span)
        return (*span, secret) if is_password(secret, quoted=bool(quote), more=more) else None


def _value(text: str, at: int, end: int, depth: Depth | None) -> tuple[int, int, bool] | None:
    """Return the span of the value, if a stem is in a secret's name, and whether it looks like a secret."""
    start, end, name = _name(text, at, end)
    kind = name_kind(name)
    if not kind:
        return None
    tag = _TAG.match(text, end) if text[start - 1 : start] == "<" else None
    operator = tag or _OPERATOR.match(text, end)
    if operator is None:
        return None
    begin, quote = operator.end(), operator["quote"] or ""
    if tag:
        span = extent.element(text, begin)
        return (*span, _is_secret(text[slice(*span)], name, kind, quoted=True, literal=True))
    flag = notation.is_flag(text, start, end, name)
    if operator["space"] is not None and not flag:
        if not quote:
            return _after_space(text, start, begin, name, kind, depth)
        if kind != "password" and not notation.is_set(text, start):
            return None
    span = extent.value(text, begin, quote, depth, before=notation.around(text, start, operator))
    if notation.is_out_of_place(text, start, operator) or (
        kind == "unsure" and not (flag or is_mixed(text[slice(*span)]) or notation.has_user(text, start))
    ):
        return None
    if quote:
        return (*span, _is_quoted_secret(text[slice(*span)], operator, name, kind, flag=flag))
    if kind == "password" and notation.is_spoken(text, start, operator):
        return (*span, is_spoken_password(text[slice(*span)]))
    return _unquoted(text, start, operator, name, kind, span, flag=flag)


def _is_quoted_secret(secret: str, operator: re.Match[str], name: str, kind: str, *, flag: bool) -> bool:
    if operator["quote"] == "'" or operator["sign"] == ":":
        secret = without_sign(secret)
    no_message = kind != "secret" and (flag or (name.isupper() and operator[0][:-1] == "="))
    if no_message and is_password(secret, no_message=True):
        return True
    return _is_secret(secret, name, kind, quoted=True, literal=True)


def _name(text: str, at: int, end: int) -> tuple[int, int, str]:
    """Return start and end of the name around a stem, and the name, with `access` of `access key`."""
    before = _BEFORE.search(text, max(0, at - 60), at)
    start = before.start() if before else at
    if rest := _REST.match(text, end):
        end = rest.end()
    name = text[start:end]
    if name.lower() == "key" and (word := _WORD_BEFORE.search(text, max(0, start - 24), start)):
        # A signing key in prose is a fingerprint.
        name = f"{word[1]}_{name}" if word[1].lower() != "signing" else ""
    if name == "PASS" and text[end : end + 1] == ":":
        name = ""  # the result of a test
    if name in FOLDERS and text[start - 1 : start] == ";":
        name = name.lower()  # in a connection string it is a password
    return start, end, name


def _unquoted(
    text: str, start: int, operator: re.Match[str], name: str, kind: str, span: tuple[int, int], *, flag: bool
) -> tuple[int, int, bool]:
    """Judge an unquoted value; return the span of what may be the secret, and whether it is one."""
    if (part := extent.default_of(text, span)) is not None:
        return (*part, _is_secret(text[slice(*part)], name, kind, quoted=True, literal=True))
    if flag or notation.is_literal(text, start, operator, name, span):
        literal, more = True, extent.is_cut_code(text, *span)
    else:
        more = extent.goes_on(text, span[1])
        literal = not more and notation.stands_alone(text, start, operator["sign"])
    if kind == "password" and more and _is_in_sentence(text[slice(*span)], operator):
        return (*span, True)
    sure = notation.closing(text, start, operator, span[1]) if kind == "password" else 0
    if sure and is_password(text[span[0] : sure], no_message=True):
        return span[0], sure, True
    quoted = flag or (literal and not more and notation.is_no_call(text, start, operator, name, span[1]))
    return (*span, _is_secret(text[slice(*span)], name, kind, quoted=quoted, literal=literal, more=more))


def _is_in_sentence(secret: str, operator: re.Match[str]) -> bool:
    """Return whether a value that words follow is a password: `password=x and more`, `password: x is`."""
    sure = operator[0] == "=" or (operator["sign"] == ":" and secret.isalnum() and is_mixed(secret))
    return sure and is_spoken_password(secret)


def _after_space(
    text: str, start: int, begin: int, name: str, kind: str, depth: Depth | None
) -> tuple[int, int, bool] | None:
    """Return the value after a name and a space: `ENV PASSWORD x`, a configuration file's line, or prose."""
    sets = notation.is_set(text, start)
    if not sets and kind != "password":
        return None
    span = extent.value(text, begin, "", depth)
    secret = text[slice(*span)]
    if sets:
        return (*span, _is_secret(secret, name, kind, quoted=False, literal=True))
    strong = is_strong(secret) or (
        any(map(str.isdigit, secret))
        and (
            (
                notation.is_own_line(text, start, span[1])
                and is_password(secret, quoted=False)
                and "-" not in secret
            )
            or (notation.is_used(text, start) and is_spoken_password(secret) and is_mixed(secret))
        )
    )
    return (*span, strong) if strong else None


def _is_secret(secret: str, name: str, kind: str, *, quoted: bool, literal: bool, more: bool = False) -> bool:
    """Return whether a value is a secret; `literal`: by its notation it cannot be a variable."""
    chosen = kind != "secret" or "secret" in name.lower()
    if quoted and ("cred" in name.lower() or "secret" in name.lower()) and is_mixed(secret):
        return True
    if chosen and literal and (kind != "secret" or name.lower().endswith("secret")):
        return is_password(secret, quoted=quoted, more=more)
    if (
        (chosen or (literal and quoted and name.startswith("-")))
        and is_strong(secret)
        and (quoted or not more or " " not in secret)
    ):
        return True
    return is_alternating(secret) or is_random_secret(secret, quoted=quoted)
