"""Finds the secrets in one text: the rule, the position and the secret. Replaces nothing and keeps no state.

For speed, the text is converted to ASCII bytes of the same length, in which C code finds the long runs of
characters that tokens consist of, and the keywords of the other rules. Regexes run only at those positions.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from sttx_ccsniff.redact import assignments, commands
from sttx_ccsniff.redact.generic_rules import ASSIGNMENT, COMMAND
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.words import Words

_MIN_TEXT = 6  # shortest text that can hold a secret with the context that identifies it, in characters
_RUN = 20  # every token with a prefix has this many letters, digits, hyphens and underscores in a row
_BACK = 20  # and starts at most this many characters before that run, such as `pat` + 14 + `.`
_NEAR = 2**13  # characters tried first; only JSON web tokens are longer
_MAX_NESTED = 4
_MIN_ENTROPY = 2.9  # bits per character: 20 random hexadecimal digits have 3.4 ± 0.2
_CLASSES = (
    bytes(ord("x") if chr(byte).isalnum() or byte in b"-_" else ord(" ") for byte in range(128)) + b" " * 128
)
# A prefix must not start inside a word; the `m` that ends a color escape is not part of a word.
_WORD_START = r"(?:(?<![A-Za-z0-9])|(?<=[0-9;]m))"


class Hit(NamedTuple):
    """A secret: its position, its text and the rule that found it."""

    start: int
    end: int
    secret: str
    rule: Rule


def _not_an_example(secret: str) -> bool:
    return not any(word in secret for word in ("EXAMPLE", "example", "XXXX", "xxxx"))


@cache
def vendor_rules() -> tuple[Rule, ...]:
    """Return the rules for tokens with a documented form, from `vendor_rules.toml`."""
    text = resources.files(__package__ or "").joinpath("vendor_rules.toml").read_text(encoding="utf-8")
    return tuple(_vendor_rule(name, table) for name, table in tomllib.loads(text).items())


def _vendor_rule(name: str, table: dict[str, Any]) -> Rule:
    prefixes, rest = tuple(table["prefixes"]), table["regex"]
    # No long run marks the position of such a token: its prefixes are searched one by one.
    short_runs = table.get("short_runs", False)
    return Rule(
        name=name,
        prefixes=() if short_runs else prefixes,
        keywords=tuple(prefix.lower() for prefix in prefixes) if short_runs else (),
        back=0 if short_runs else None,
        regex=_WORD_START + _whole_token(prefixes, rest) if short_runs else _whole_token(prefixes, rest),
        about=table["about"],
        form=table["form"],
        entropy=_MIN_ENTROPY,
        valid=_not_an_example,
    )


_Entry = tuple[re.Pattern[str], Rule]


class Scanner:
    """All rules, compiled.

    Args:
        rules: The rules that have a regex.
        finders: The names of the rules without a regex that are on, `assignment` and `command-line`.
    """

    def __init__(
        self, rules: Sequence[Rule], *, finders: frozenset[str] = frozenset((ASSIGNMENT.name, COMMAND.name))
    ) -> None:
        tokens = [rule for rule in rules if rule.prefixes]
        self._tokens = {f"r{n}": rule for n, rule in enumerate(tokens)}
        prefixes = sorted({prefix for rule in tokens for prefix in rule.prefixes}, key=len, reverse=True)
        self._prefix = re.compile(_WORD_START + _trie(prefixes)) if prefixes else None
        # Longer prefixes first: `sk-ant-` before `sk-`.
        order = sorted(self._tokens, key=lambda n: -max(map(len, self._tokens[n].prefixes)))
        # Compiled by prefix, because few rules share one: trying all rules would dominate the cost.
        self._order = [(n, self._tokens[n]) for n in order]
        self._by_prefix: dict[str, re.Pattern[str]] = {}
        self._always: list[_Entry] = []
        self._by_word: dict[bytes, list[_Entry]] = {}
        for rule in rules:
            if not rule.prefixes:
                self._add(rule, re.compile(rule.regex))
        self._with_assignments = ASSIGNMENT.name in finders
        self._with_commands = COMMAND.name in finders
        names = assignments.WORDS if self._with_assignments else ()
        self._words = Words((*self._by_word, *names))

    def _add(self, rule: Rule, regex: re.Pattern[str]) -> None:
        """File a rule under its keywords."""
        if not rule.keywords:
            self._always.append((regex, rule))
        for keyword in rule.keywords:
            self._by_word.setdefault(keyword.encode(), []).append((regex, rule))

    def has_word(self, text: str) -> bool:
        """Return whether a text has one of the words at which a hit may start."""
        return next(self._words.find(text.encode("ascii", "replace").lower()), None) is not None

    def hits(self, text: str, depth: assignments.Depth | None = None) -> list[Hit]:
        """Return all hits, in no particular order; they may overlap.

        Args:
            text: The text.
            depth: If the text was escaped: by how many backslashes the character at a position was.
        """
        if len(text) < _MIN_TEXT:
            return []
        plain = text.encode("ascii", "replace")
        hits = list(self._token_hits(text, plain)) if len(text) >= _RUN else []
        low = plain.lower()
        if self._words.may_find(low):
            hits += self._word_hits(text, low, self._values(text, depth))
        for regex, rule in self._always:
            hits += regex_hits(text, regex, rule)
        if self._with_commands:
            hits += (Hit(*span, COMMAND) for span in commands.find(text, plain))
        if not text.isascii() and (values := self._values(text, depth)):
            hits += (Hit(*span, ASSIGNMENT) for span in values.of_other_scripts())
        return hits

    def _values(self, text: str, depth: assignments.Depth | None) -> assignments.Values | None:
        return assignments.Values(text, depth) if self._with_assignments else None

    def _word_hits(self, text: str, low: bytes, values: assignments.Values | None) -> Iterator[Hit]:
        """Yield the hits of rules with keywords, and of values that are assigned to a secret's name."""
        done: dict[int, int] = {}  # by rule: where its last hit ends
        rejected: dict[int, tuple[int, int]] = {}  # overlapping matches in a row, and the end of the last one
        floating: dict[int, _Entry] = {}
        for at, word in self._words.find(low):
            for entry in self._by_word.get(word, ()):
                regex, rule = entry
                if rule.back is None:
                    floating[id(rule)] = entry
                elif at >= max(rule.back, done.get(id(rule), 0)):
                    match = regex.match(text, at - rule.back)
                    if match and (hit := _hit(match, rule)):
                        yield hit
                        done[id(rule)] = hit.end
                    elif match:
                        # As with tokens: skip ahead in a text that repeats a keyword.
                        count, until = rejected.get(id(rule), (0, 0))
                        rejected[id(rule)] = count + 1 if at < until else 0, max(until, match.end())
                        if count >= _MAX_NESTED:
                            done[id(rule)] = until
            if values and (span := values.at(at, word)):
                yield Hit(*span, ASSIGNMENT)
        for regex, rule in floating.values():
            yield from regex_hits(text, regex, rule)

    def _token_hits(self, text: str, plain: bytes) -> Iterator[Hit]:
        if self._prefix is None:
            return
        at = 0
        for start, end in _runs(plain):
            at = max(at, start - _BACK)
            rejected, until = 0, 0  # overlapping tokens rejected in a row, and the end of the last one
            while at < end and (prefix := self._prefix.search(text, at, end)):
                at = prefix.start()
                token = self._token_at(text, at, prefix[0])
                rule = self._tokens[token.lastgroup or ""] if token else None
                if token and rule and rule.accepts(token[0]):
                    yield Hit(at, token.end(), token[0], rule)
                    at = token.end()
                elif token:
                    # Skip ahead in a text that repeats a prefix: checking each token to its end is quadratic.
                    rejected = rejected + 1 if at < until else 0
                    until = max(until, token.end())
                    at = until if rejected > _MAX_NESTED else at + 1
                else:
                    at += 1

    def _token_at(self, text: str, at: int, prefix: str) -> re.Match[str] | None:
        """Match a token within the next 8,192 characters, and further only if it fills them all."""
        token = self._by_prefix.get(prefix) or self._compiled(prefix)
        near = token.match(text, at, at + _NEAR)
        return token.match(text, at) if near and near.end() == at + _NEAR else near

    def _compiled(self, prefix: str) -> re.Pattern[str]:
        """Compile the rules whose tokens may start with this prefix, when it is first found."""
        rules = [(n, rule) for n, rule in self._order if any(one.startswith(prefix) for one in rule.prefixes)]
        token = re.compile("|".join(f"(?P<{n}>{rule.regex})" for n, rule in rules))
        return self._by_prefix.setdefault(prefix, token)


def _hit(match: re.Match[str], rule: Rule) -> Hit | None:
    group: int | str = "secret" if "secret" in match.re.groupindex else 0
    start, end = match.span(group)
    accepted = end > start and rule.accepts(match[group])
    return Hit(start, end, match[group], rule) if accepted else None


def regex_hits(text: str, regex: re.Pattern[str], rule: Rule) -> Iterator[Hit]:
    """Yield the matches of a rule's compiled regex that the rule accepts."""
    for match in regex.finditer(text):
        if hit := _hit(match, rule):
            yield hit


def _runs(plain: bytes) -> Iterator[tuple[int, int]]:
    """Yield the spans of letters, digits, hyphens and underscores that are long enough for a token."""
    classes = plain.translate(_CLASSES) + b" "
    run = b"x" * _RUN
    find = classes.find
    start = find(run)
    while start >= 0:
        end = find(b" ", start + _RUN)
        yield start, end
        start = find(run, end + 1)


def _whole_token(prefixes: Iterable[str], rest: str) -> str:
    """Return the regex of a token: one of its prefixes, the rest, and no letter or digit after it."""
    either = "|".join(re.escape(prefix) for prefix in sorted(prefixes, key=len, reverse=True))
    return f"(?:{either})(?:{rest})(?![A-Za-z0-9])"


def _trie(words: Iterable[str]) -> str:
    """Return an alternation of words in which no two branches start with the same letter.

    >>> _trie(["sk_", "gho_", "ghp_"])
    '(?:gh(?:o_|p_)|sk_)'
    """
    words = sorted(set(words))
    if not words[0]:
        return ""  # one word is a prefix of another: the shorter one is enough
    first = {word[0]: [other[1:] for other in words if other[0] == word[0]] for word in words}
    branches = [re.escape(letter) + _trie(rest) for letter, rest in first.items()]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
