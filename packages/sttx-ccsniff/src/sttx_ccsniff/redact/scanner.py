"""Finds the secrets in one text: which rule, where, and what. Replaces nothing, remembers nothing.

Speed comes from looking at little: a text becomes ASCII bytes of the same length, in which C code finds the
long runs that tokens are, and the keywords of the other rules. Only there does a regular expression start.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from sttx_ccsniff.redact import assignments
from sttx_ccsniff.redact.generic_rules import ASSIGNMENT
from sttx_ccsniff.redact.rule import Rule

_SHORTEST = 6  # characters: no secret, no private name with what tells it, is shorter
_RUN = 20  # every token with a beginning has as many letters, digits, hyphens and underscores in a row
_BACK = 20  # and begins at most so many characters before them, as `pat` + 14 + `.` does
_NEAR = 2**13  # characters of a token, the longest being a JWT
_MOST_NESTED = 4
_SHARED = 3  # letters of a keyword that are looked for first
_FLOOR = 2.9  # bits a character: 20 random hexadecimal digits have 3.4, give or take 0.2
_CLASSES = (
    bytes(ord("x") if chr(byte).isalnum() or byte in b"-_" else ord(" ") for byte in range(128)) + b" " * 128
)
# A beginning stands at no word's inside; the `m` of a colour's escape is none.
_FRESH = r"(?:(?<![A-Za-z0-9])|(?<=[0-9;]m))"


class Hit(NamedTuple):
    """A secret found: its place, what it is, and under which rule."""

    start: int
    end: int
    secret: str
    rule: Rule


def _not_an_example(secret: str) -> bool:
    return not any(word in secret for word in ("EXAMPLE", "example", "XXXX", "xxxx"))


@cache
def vendor_rules() -> tuple[Rule, ...]:
    """Read the tokens with a documented form, which are data."""
    text = resources.files(__package__ or "").joinpath("vendor_rules.toml").read_text(encoding="utf-8")
    return tuple(_vendor_rule(name, told) for name, told in tomllib.loads(text).items())


def _vendor_rule(name: str, told: dict[str, Any]) -> Rule:
    leads, rest = tuple(told["leads"]), told["regex"]
    broken = told.get(
        "broken", False
    )  # no long run shows where it is: its beginnings are looked for one by one
    return Rule(
        name=name,
        leads=() if broken else leads,
        keywords=tuple(lead.lower() for lead in leads) if broken else (),
        back=0 if broken else None,
        regex=_FRESH + _whole(leads, rest) if broken else _whole(leads, rest),
        about=told["about"],
        form=told["form"],
        entropy=_FLOOR,
        valid=_not_an_example,
    )


class Scanner:
    """All rules, compiled.

    Args:
        rules: Those with a regex of their own.
        with_assignments: Whether to look for values of names that are a password's, too.
    """

    def __init__(self, rules: Sequence[Rule], *, with_assignments: bool = True) -> None:
        tokens = [rule for rule in rules if rule.leads]
        self._tokens = {f"r{n}": rule for n, rule in enumerate(tokens)}
        leads = sorted({lead for rule in tokens for lead in rule.leads}, key=len, reverse=True)
        self._begin = re.compile(_FRESH + _trie(leads)) if leads else None
        # Longer beginnings first: `sk-ant-` before `sk-`.
        order = sorted(self._tokens, key=lambda n: -max(map(len, self._tokens[n].leads)))
        # By the beginning that was found, which few rules share: to try them all would cost the most.
        self._order = [(n, self._tokens[n]) for n in order]
        self._by_begin: dict[str, re.Pattern[str]] = {}
        others = [(rule, re.compile(rule.regex)) for rule in rules if not rule.leads]
        # Looked for by the first letters that some keywords share, and only then one by one.
        self._anchored: dict[bytes, list[tuple[bytes, re.Pattern[str], Rule]]] = {}
        for rule, regex in others:
            for word in rule.keywords if rule.back is not None else ():
                entry = (word.encode(), regex, rule)
                self._anchored.setdefault(entry[0][:_SHARED], []).append(entry)
        self._floating = [
            (tuple(word.encode() for word in rule.keywords), regex, rule)
            for rule, regex in others
            if rule.back is None
        ]
        self._with_assignments = with_assignments

    def hits(self, text: str) -> list[Hit]:
        """Return what is found, in no order; hits may overlap."""
        if len(text) < _SHORTEST:
            return []
        plain = text.encode("ascii", "replace")
        found = list(self._token_hits(text, plain)) if len(text) >= _RUN else []
        low = plain.lower()
        for shared, entries in self._anchored.items():
            if shared in low:
                for word, regex, rule in entries:
                    found += _anchored_hits(text, low, word, regex, rule)
        for keywords, regex, rule in self._floating:
            if not keywords or any(word in low for word in keywords):
                found += regex_hits(text, regex, rule)
        if self._with_assignments:
            found += (Hit(*span, ASSIGNMENT) for span in assignments.find(text, low))
        return found

    def _token_hits(self, text: str, plain: bytes) -> Iterator[Hit]:
        if self._begin is None:
            return
        at = 0
        for start, end in _runs(plain):
            at = max(at, start - _BACK)
            refused, until = 0, 0  # tokens looked at in vain, and where the last of them ends
            while at < end and (begin := self._begin.search(text, at, end)):
                at = begin.start()
                token = self._token_at(text, at, begin[0])
                rule = self._tokens[token.lastgroup or ""] if token else None
                if token and rule and rule.accepts(token[0]):
                    yield Hit(at, token.end(), token[0], rule)
                    at = token.end()
                elif token:
                    # A text that is nothing but beginnings must not be judged to its end from each of them.
                    refused = refused + 1 if at < until else 0
                    until = max(until, token.end())
                    at = until if refused > _MOST_NESTED else at + 1
                else:
                    at += 1

    def _token_at(self, text: str, at: int, begin: str) -> re.Match[str] | None:
        """Match a token; look far only where it goes on that far, as most beginnings are none."""
        token = self._by_begin.get(begin) or self._compiled(begin)
        near = token.match(text, at, at + _NEAR)
        return token.match(text, at) if near and near.end() == at + _NEAR else near

    def _compiled(self, begin: str) -> re.Pattern[str]:
        """Compile the rules whose tokens may begin so, when the first is met."""
        rules = [(n, rule) for n, rule in self._order if any(lead.startswith(begin) for lead in rule.leads)]
        token = re.compile("|".join(f"(?P<{n}>{rule.regex})" for n, rule in rules))
        return self._by_begin.setdefault(begin, token)


def _anchored_hits(text: str, low: bytes, word: bytes, regex: re.Pattern[str], rule: Rule) -> Iterator[Hit]:
    """Yield what a rule finds that begins at a keyword, or at a known distance before it."""
    back = rule.back or 0
    at = low.find(word)
    while at >= 0:
        end = at + len(word)
        found = regex.match(text, at - back) if at >= back else None
        if found and (hit := _hit(found, rule)):
            yield hit
            end = max(end, hit.end)
        at = low.find(word, end)


def _hit(found: re.Match[str], rule: Rule) -> Hit | None:
    group: int | str = "secret" if "secret" in found.re.groupindex else 0
    start, end = found.span(group)
    accepted = end > start and rule.accepts(found[group])
    return Hit(start, end, found[group], rule) if accepted else None


def regex_hits(text: str, regex: re.Pattern[str], rule: Rule) -> Iterator[Hit]:
    """Yield what a rule's compiled regex finds and the rule accepts."""
    for found in regex.finditer(text):
        if hit := _hit(found, rule):
            yield hit


def _runs(plain: bytes) -> Iterator[tuple[int, int]]:
    """Yield where letters, digits, hyphens and underscores stand in a row, long enough for a token."""
    classes = plain.translate(_CLASSES) + b" "
    run = b"x" * _RUN
    find = classes.find
    start = find(run)
    while start >= 0:
        end = find(b" ", start + _RUN)
        yield start, end
        start = find(run, end + 1)


def _whole(leads: Iterable[str], rest: str) -> str:
    """Write a token's regex: any of its beginnings, the rest, and no further letter or digit."""
    either = "|".join(re.escape(lead) for lead in sorted(leads, key=len, reverse=True))
    return f"(?:{either})(?:{rest})(?![A-Za-z0-9])"


def _trie(words: Iterable[str]) -> str:
    """Write an alternation of words so that no two branches begin with the same letter.

    >>> _trie(["sk_", "gho_", "ghp_"])
    '(?:gh(?:o_|p_)|sk_)'
    """
    words = sorted(set(words))
    if not words[0]:
        return ""  # one word is another's beginning: the shorter is enough
    first = {word[0]: [other[1:] for other in words if other[0] == word[0]] for word in words}
    branches = [re.escape(letter) + _trie(rest) for letter, rest in first.items()]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
