"""`Redactor`: takes a trace and returns it without secrets. `scanner` knows what a secret is.

Every string is searched, including keys, and at any depth in tool inputs and unknown records. A trace without
secrets is returned unchanged. No secret is stored, logged or put into an error message; only counts by rule
are kept, and the few user names seen in paths, by session.
"""

import dataclasses
import json
import re
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from sttx_ccsniff.redact import privacy
from sttx_ccsniff.redact.config import RedactionConfig, all_rules
from sttx_ccsniff.redact.fields import CHOSEN, IN_TEXT, NO_FIELD, Field, Fields
from sttx_ccsniff.redact.generic_rules import ASSIGNMENT, COMMAND, FIELD
from sttx_ccsniff.redact.header_rules import AUTHORIZATION
from sttx_ccsniff.redact.names import is_password_name
from sttx_ccsniff.redact.privacy import EMAIL, HOME, IP, NAME
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.scanner import Hit, Scanner
from sttx_ccsniff.redact.tags import Tagger
from sttx_ccsniff.redact.unescape import Unescaped, has_escapes
from sttx_ccsniff.redact.values import is_field_secret, is_mixed, is_random_secret
from sttx_core.traces import Meta, Trace

PLACEHOLDER = re.compile(r"\[(?:REDACTED [a-z0-9-]{1,60} [0-9a-f]{8}|user|(?:email|ip) [0-9a-f]{8})\]")
"""What replaces a secret; a placeholder in the input is left as it is."""

_MIN_LENGTH = 4
_MAX_DEPTH = 200
_TOO_DEEP = "[nested too deep]"
_MAX_ROUNDS = 8
_MAX_SESSIONS = 1024
_MAX_NAMES = 8
_MIN_DIGITS = 6
_OPENING = ("{", "[")
_MIN_DOCUMENT = 16
_MAX_DOCUMENT = 2**20  # characters of a JSON document
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
_ASSIGNED = re.compile(r"(?P<name>[\w.:/@-]{1,80})=(?P<value>\S{4,1024}|(?<=[A-Z]=)[^\n]{4,200})")
_MAX_ARGUMENTS = 200


class Redactor:
    """Replaces secrets and private names in traces by placeholders.

    >>> from sttx_core.traces import UserMessage
    >>> redactor = Redactor()
    >>> redactor.redact(UserMessage(meta=Meta(session="s"), text="cd /home/lovelace/engine")).text
    'cd /home/[user]/engine'
    >>> redactor.counts
    Counter({'home-path': 1})

    Args:
        config: Changes to the default rules.
        say: Called once if the tags' key cannot be stored, so that tags differ from run to run.

    Attributes:
        counts: How many secrets were replaced, by rule.
    """

    def __init__(
        self, config: RedactionConfig | None = None, *, say: Callable[[str], None] | None = None
    ) -> None:
        self.config = config or RedactionConfig()
        self.counts: Counter[str] = Counter()
        off = self.config.disable
        self._with_fields = FIELD.name not in off
        self._scanner = _scanner(self.config.rules, off)
        self._fields = Fields(self._scanner.has_word)
        self._with_homes = HOME.name not in off
        self._with_names = NAME.name not in off
        self._with_emails = EMAIL.name not in off
        self._with_ips = self.config.ip_addresses and IP.name not in off
        self._allowed = [re.compile(regex) for regex in self.config.allow_regexes]
        self._tagger = Tagger(say)
        login = Path.home().name
        self._login = {login} if privacy.is_personal(login) else set()
        self._sessions: OrderedDict[str, set[str]] = OrderedDict()

    def redact(self, trace: Trace) -> Trace:
        """Return the trace without secrets; the same object if it holds none."""
        meta = trace.meta
        names = self._names(meta)
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(trace):
            if field.name in ("meta", "id"):
                continue
            value = getattr(trace, field.name)
            clean = self._walk(value, meta.session, names, 0)
            if clean is not value:
                changed[field.name] = clean
        project = self._project(meta, names)
        if project is not meta.project:
            changed["meta"] = dataclasses.replace(meta, project=project)
        return dataclasses.replace(trace, **changed) if changed else trace

    def find(self, text: str, session: str = "") -> list[Hit]:
        """Return the hits of the first pass over a text, in order, to inspect the rules."""
        return self._hits(text, self._names(Meta(session=session)))

    # Walking a trace

    def _walk(self, value: Any, session: str, names: set[str], depth: int, field: Field = NO_FIELD) -> Any:
        if isinstance(value, str):
            new = self._whole(value, session, field) if field.name else value
            if new is not value:
                return new
            # Within a document all strings were searched already, but not with the name in front of them.
            if field.start or not field.is_unsure:
                new = self._clean(value, session, names, field.start)
            return self._document(new, session, names, depth) if new.startswith(_OPENING) else new
        if not isinstance(value, (dict, list)):
            return self._number(value, session, field)
        if depth >= _MAX_DEPTH:
            return _TOO_DEEP
        if isinstance(value, list):
            items = [
                self._walk(self._assigned(item, session), session, names, depth + 1, field) for item in value
            ]
            items = self._arguments(items, session, names, field.start)
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else items
        return self._walk_dict(value, session, names, depth, field)

    def _walk_dict(
        self, value: dict[Any, Any], session: str, names: set[str], depth: int, outer: Field
    ) -> dict[Any, Any]:
        field = self._fields.of(value, outer)
        clean: dict[Any, Any] = {}
        same = True
        for key, item in value.items():
            new_key = (
                self._clean(key, session, names) if isinstance(key, str) and not outer.is_unsure else key
            )
            new = self._walk(item, session, names, depth + 1, field(key))
            while new_key in clean:  # two keys became the same placeholder
                new_key = f"{new_key}'"
            clean[new_key] = new
            same = same and new_key is key and new is item
        return value if same else clean

    def _whole(self, value: str, session: str, field: Field) -> str:
        """Replace a whole string that is the value of a secret's name."""
        if not (field.name and self._with_fields):
            return value
        if not is_field_secret(value) or PLACEHOLDER.search(value) or self._is_allowed(value):
            return value
        if field.is_unsure and not _is_mixed(value, field.name):
            return value
        hits = [hit for hit in self._scanner.hits(value) if (hit.start, hit.end) == (0, len(value))]
        return self._counted(hits[0].rule if hits else FIELD, session, value)

    def _document(self, text: str, session: str, names: set[str], depth: int) -> str:
        """Replace in a JSON document what a structured value would lose."""
        if not _MIN_DOCUMENT <= len(text) <= _MAX_DOCUMENT or text.rstrip()[-1] not in "]}":
            return text
        low = text.lower()
        if text.isascii() and not any(word in low for word in CHOSEN):
            return text
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return text
        changes = dict(_changes(document, self._walk(document, session, names, depth + 1, IN_TEXT)))
        if not changes:
            return text
        # The same string may be escaped in several ways, so each is read.
        return _JSON_STRING.sub(lambda string: _changed(string[0], changes), text)

    def _assigned(self, item: Any, session: str) -> Any:
        """Replace the value of a word in a list such as `["-e", "DB_PASSWORD=x"]`."""
        match = _ASSIGNED.fullmatch(item) if isinstance(item, str) and "=" in item else None
        if match is None:
            return item
        value = self._whole(match["value"], session, self._fields.plain(match["name"]))
        return item if value is match["value"] else f"{match['name']}={value}"

    def _number(self, value: Any, session: str, field: Field) -> Any:
        """Replace a password of digits only."""
        if not (field.name and self._with_fields and isinstance(value, int)) or isinstance(value, bool):
            return value
        digits = str(value)
        if (
            field.is_unsure
            or len(digits) < _MIN_DIGITS
            or not is_password_name(field.name)
            or self._is_allowed(digits)
        ):
            return value
        return self._counted(FIELD, session, digits)

    def _counted(self, rule: Rule, session: str, secret: str) -> str:
        self.counts[rule.name] += 1
        return self._placeholder(rule, session, secret)

    def _arguments(self, items: list[Any], session: str, names: set[str], before: str) -> list[Any]:
        """Replace secrets in a list of words, such as `["mysql", "-p", "x"]` or `["Cookie", "x"]`."""
        if not 1 < len(items) <= _MAX_ARGUMENTS or not all(isinstance(item, str) for item in items):
            return items
        if not (
            before
            or any(item.startswith(("-", "/")) or self._fields.plain(item) is not NO_FIELD for item in items)
        ):
            return items
        quote = next((quote for quote in "\"'`" if not any(quote in item for item in items)), None)
        if quote is None:
            return items
        text = f"{before}[{quote}{f'{quote}, {quote}'.join(items)}{quote}]"
        clean, start = list(items), len(before) + 2
        starts = [start := start + (len(items[n - 1]) + 4 if n else 0) for n in range(len(items))]
        for hit in reversed(self._hits(text, names)):
            at = bisect_right(starts, hit.start) - 1
            if at >= 0 and hit.end <= starts[at] + len(items[at]):
                begin, end = hit.start - starts[at], hit.end - starts[at]
                tag = self._counted(hit.rule, session, hit.secret)
                clean[at] = f"{clean[at][:begin]}{tag}{clean[at][end:]}"
        return clean

    def _project(self, meta: Meta, names: set[str]) -> str:
        project = meta.project
        if not isinstance(project, str) or not project:
            return project
        if self._with_names and project in names:
            self.counts[NAME.name] += 1
            return "[user]"
        return self._clean(project, meta.session, names)

    # One string

    def _clean(self, text: str, session: str, names: set[str], before: str = "") -> str:
        """Return a text without secrets, searched as the rest of a line that starts with `before`."""
        if len(text) < _MIN_LENGTH:
            return text
        for _ in range(_MAX_ROUNDS):
            hits = self._hits(before + text, names)
            if before:
                hits = [hit for hit in hits if hit.start >= len(before)]
            if not hits:
                break
            pieces: list[str] = []
            at = len(before)
            text = before + text
            for hit in hits:
                self.counts[hit.rule.name] += 1
                pieces += (text[at : hit.start], self._placeholder(hit.rule, session, hit.secret))
                at = hit.end
            text = "".join([*pieces, text[at:]])
        return text

    def _hits(self, text: str, names: set[str]) -> list[Hit]:
        """Return the hits in a text, in order, without overlaps among themselves or with placeholders."""
        if has_escapes(text):
            plain = Unescaped(text)
            hits = [
                hit._replace(start=start, end=end)
                for hit in self._scan(plain.text, names, plain.depth)
                for start, end in [plain.raw_span(hit.start, hit.end)]
            ]
            hits += self._homes(text, names)  # the `\n` in `C:\Users\nina` is not an escape
        else:
            hits = self._scan(text, names)
        if not hits:
            return hits
        hits = [hit for hit in hits if not self._is_allowed(hit.secret)]
        return _without_overlaps(_outside_placeholders(hits, text), text)

    def _scan(self, text: str, names: set[str], depth: Callable[[int], int] | None = None) -> list[Hit]:
        hits = self._scanner.hits(text, depth)
        hits += self._homes(text, names)
        if self._with_emails and "@" in text:
            hits += [Hit(*span, EMAIL) for span in privacy.emails(text)]
        if self._with_names and names:
            hits += [Hit(*span, NAME) for span in privacy.known_names(text, names)]
        if self._with_ips:
            hits += [Hit(*span, IP) for span in privacy.ip_addresses(text)]
        return hits

    def _homes(self, text: str, names: set[str]) -> list[Hit]:
        if not self._with_homes or not ("/" in text or "\\" in text or "-" in text):
            return []
        hits = [Hit(*span, HOME) for span in privacy.home_users(text)]
        for hit in hits:
            if hit.secret not in names and len(names) < _MAX_NAMES:
                names.add(hit.secret)
        return hits

    def _is_allowed(self, secret: str) -> bool:
        return secret in self.config.allow_values or any(regex.search(secret) for regex in self._allowed)

    def _placeholder(self, rule: Rule, session: str, secret: str) -> str:
        if rule in (HOME, NAME):
            return "[user]"
        tag = self._tagger.tag(session, secret)
        if rule in (EMAIL, IP):
            return f"[{rule.label} {tag}]"
        return f"[REDACTED {rule.label or rule.name} {tag}]"

    # The names of a session's user

    def _names(self, meta: Meta) -> set[str]:
        names = self._sessions.get(meta.session)
        if names is None:
            names = self._sessions[meta.session] = set(self._login)
            if isinstance(meta.origin, str):
                self._homes(meta.origin, names)
            if len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return names


@lru_cache(maxsize=8)
def _scanner(own: tuple[Rule, ...], off: frozenset[str]) -> Scanner:
    """Compile the enabled rules; redactors with the same rules share the result."""
    rules = [rule for rule in all_rules(own) if rule.name not in off]
    finders = frozenset((ASSIGNMENT.name, COMMAND.name)) - off
    return Scanner(rules, finders=finders)


def _outside_placeholders(hits: list[Hit], text: str) -> list[Hit]:
    """Drop hits that overlap a placeholder."""
    taken = [match.span() for match in PLACEHOLDER.finditer(text)] if "[" in text else []
    if not taken:
        return hits
    ends = [end for _, end in taken]
    kept: list[Hit] = []
    for hit in hits:
        at = bisect_right(ends, hit.start)  # the first placeholder that ends after the hit's start
        if at == len(taken) or taken[at][0] >= hit.end:
            kept.append(hit)
    return kept


def _changes(old: Any, new: Any) -> Iterator[tuple[str, str]]:
    """Yield the strings that differ between two values of the same structure."""
    if new is old:
        return
    if isinstance(old, str) and isinstance(new, str):
        yield old, new
    elif isinstance(old, dict) and isinstance(new, dict):
        for before, after in zip(old.values(), new.values(), strict=True):
            yield from _changes(before, after)
    elif isinstance(old, list) and isinstance(new, list):
        for before, after in zip(old, new, strict=True):
            yield from _changes(before, after)


def _changed(string: str, changes: dict[str, str]) -> str:
    new = changes.get(json.loads(string, strict=False))
    return string if new is None else json.dumps(new, ensure_ascii=False)


def _is_mixed(value: str, name: str) -> bool:
    """Return whether a string is more than a word, if other things than secrets may stand there too."""
    if is_mixed(value) or is_random_secret(value, quoted=True):
        return True
    return is_password_name(name) and any(map(str.isdigit, value))


_PRIVATE = frozenset(rule.name for rule in privacy.PRIVACY_RULES)


def _rank(hit: Hit) -> tuple[bool, bool, int]:
    """Order overlapping hits: vendor rules first, those without their own form last, then the longer one."""
    return not hit.rule.prefixes, hit.rule in (ASSIGNMENT, AUTHORIZATION), hit.start - hit.end


def _without_overlaps(hits: list[Hit], text: str) -> list[Hit]:
    """Join overlapping secrets into one hit, and drop private names that overlap a secret."""
    secrets = sorted((hit for hit in hits if hit.rule.name not in _PRIVATE), key=lambda hit: hit.start)
    private = sorted((hit for hit in hits if hit.rule.name in _PRIVATE), key=lambda hit: hit.start)
    joined: list[Hit] = []
    for hit in secrets:
        if joined and hit.start < joined[-1].end:
            best = min(joined[-1], hit, key=_rank)
            start, end = joined[-1].start, max(joined[-1].end, hit.end)
            secret = best.secret if (best.start, best.end) == (start, end) else text[start:end]
            joined[-1] = Hit(start, end, secret, best.rule)
        else:
            joined.append(hit)
    free: list[Hit] = []
    at = last = 0
    for hit in private:
        while at < len(joined) and joined[at].end <= hit.start:
            at += 1
        if hit.start >= last and (at == len(joined) or hit.end <= joined[at].start):
            free.append(hit)
            last = hit.end
    return sorted([*joined, *free], key=lambda hit: hit.start)
