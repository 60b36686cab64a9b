"""`Redactor`: a trace in, the same trace without its secrets out; what a secret is, `scanner` knows.

Every string is looked at, in tool inputs and unknown records at any depth, keys too. A trace in which nothing
was found is returned as it is. No secret is kept, logged or raised; what is kept are counts by rule, and the
few user names that were seen in paths, by session.
"""

import dataclasses
import re
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from sttx_ccsniff.redact import privacy
from sttx_ccsniff.redact.config import RedactionConfig, all_rules
from sttx_ccsniff.redact.generic_rules import ASSIGNMENT, FIELD
from sttx_ccsniff.redact.privacy import EMAIL, HOME, IP, NAME
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.scanner import Hit, Scanner
from sttx_ccsniff.redact.shapes import is_field_secret, is_secret_name
from sttx_ccsniff.redact.tags import Tagger
from sttx_ccsniff.redact.unescape import Unescaped, has_escapes
from sttx_core.traces import Meta, Trace

PLACEHOLDER = re.compile(r"\[(?:REDACTED [a-z0-9-]{1,60} [0-9a-f]{8}|user|(?:email|ip) [0-9a-f]{8})\]")
"""What stands for what was taken out; left alone when met again."""

_SHORTEST = 4
_DEEPEST = 200
_TOO_DEEP = "[nested too deep]"
_MOST_ROUNDS = 8
_MOST_SESSIONS = 1024
_MOST_NAMES = 8


class Redactor:
    """Takes secrets and private names out of traces.

    >>> from sttx_core.traces import UserMessage
    >>> redactor = Redactor()
    >>> redactor.redact(UserMessage(meta=Meta(session="s"), text="cd /home/lovelace/engine")).text
    'cd /home/[user]/engine'
    >>> redactor.counts
    Counter({'home-path': 1})

    Args:
        config: What to look for beyond, or less than, the default.
        say: Told once if the tags' key cannot be kept, so that tags will differ from run to run.

    Attributes:
        counts: How many were taken out, by rule.
    """

    def __init__(
        self, config: RedactionConfig | None = None, *, say: Callable[[str], None] | None = None
    ) -> None:
        self.config = config or RedactionConfig()
        self.counts: Counter[str] = Counter()
        off = self.config.disable
        self._fields = FIELD.name not in off
        self._scanner = _scanner(self.config.rules, off)
        self._private = {rule.name for rule in (HOME, NAME, EMAIL)} - off
        if self.config.ip_addresses and IP.name not in off:
            self._private.add(IP.name)
        self._allowed = [re.compile(regex) for regex in self.config.allow_regexes]
        self._tagger = Tagger(say)
        login = Path.home().name
        self._login = {login} if privacy.is_somebody(login) else set()
        self._sessions: OrderedDict[str, set[str]] = OrderedDict()

    def redact(self, trace: Trace) -> Trace:
        """Return the trace without secrets: itself, where it holds none."""
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
        """Return what would be taken out of one text first, in order, for a person to judge the rules by."""
        return self._hits(text, self._names(Meta(session=session)))

    # Where strings are

    def _walk(self, value: Any, session: str, names: set[str], depth: int) -> Any:
        if isinstance(value, str):
            return self._clean(value, session, names)
        if not isinstance(value, (dict, list)):
            return value
        if depth >= _DEEPEST:
            return _TOO_DEEP
        if isinstance(value, list):
            items = [self._walk(item, session, names, depth + 1) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else items
        return self._walk_dict(value, session, names, depth)

    def _walk_dict(self, value: dict[Any, Any], session: str, names: set[str], depth: int) -> dict[Any, Any]:
        entry_name = value.get("name") if "value" in value else None
        clean: dict[Any, Any] = {}
        same = True
        for key, item in value.items():
            new_key = self._clean(key, session, names) if isinstance(key, str) else key
            said = entry_name if key == "value" and isinstance(entry_name, str) else key
            new = self._field(said, item, session)
            if new is item:
                new = self._walk(item, session, names, depth + 1)
            while new_key in clean:  # two private names became one
                new_key = f"{new_key}'"
            clean[new_key] = new
            same = same and new_key is key and new is item
        return value if same else clean

    def _field(self, name: Any, value: Any, session: str) -> Any:
        """Take out a whole string that stands under a password's name."""
        if not (self._fields and isinstance(value, str) and isinstance(name, str)):
            return value
        if not (is_secret_name(name) and is_field_secret(value)) or PLACEHOLDER.search(value):
            return value
        hits = [hit for hit in self._scanner.hits(value) if (hit.start, hit.end) == (0, len(value))]
        rule = hits[0].rule if hits else FIELD
        if self._is_allowed(value):
            return value
        self.counts[rule.name] += 1
        return self._placeholder(rule, session, value)

    def _project(self, meta: Meta, names: set[str]) -> str:
        project = meta.project
        if not isinstance(project, str) or not project:
            return project
        if NAME.name in self._private and project in names:
            self.counts[NAME.name] += 1
            return "[user]"
        return self._clean(project, meta.session, names)

    # What is in one string

    def _clean(self, text: str, session: str, names: set[str]) -> str:
        if len(text) < _SHORTEST:
            return text
        for _ in range(_MOST_ROUNDS):
            hits = self._hits(text, names)
            if not hits:
                break
            pieces: list[str] = []
            at = 0
            for hit in hits:
                self.counts[hit.rule.name] += 1
                pieces += (text[at : hit.start], self._placeholder(hit.rule, session, hit.secret))
                at = hit.end
            text = "".join([*pieces, text[at:]])
        return text

    def _hits(self, text: str, names: set[str]) -> list[Hit]:
        """Return what is to be taken out of a text, in order, none overlapping another or a placeholder."""
        if has_escapes(text):
            seen = Unescaped(text)
            hits = [
                hit._replace(start=start, end=end)
                for hit in self._scan(seen.text, names)
                for start, end in [seen.raw_span(hit.start, hit.end)]
            ]
            hits += self._homes(text, names)  # `C:\Users\nina` has no line end in it
        else:
            hits = self._scan(text, names)
        if not hits:
            return hits
        hits = [hit for hit in hits if not self._is_allowed(hit.secret)]
        return _apart(_beside_placeholders(hits, text), text)

    def _scan(self, text: str, names: set[str]) -> list[Hit]:
        hits = self._scanner.hits(text)
        hits += self._homes(text, names)
        wanted = self._private
        if EMAIL.name in wanted and "@" in text:
            hits += [Hit(*found, EMAIL) for found in privacy.emails(text)]
        if NAME.name in wanted and names:
            hits += [Hit(*found, NAME) for found in privacy.named(text, names)]
        if IP.name in wanted:
            hits += [Hit(*found, IP) for found in privacy.addresses(text)]
        return hits

    def _homes(self, text: str, names: set[str]) -> list[Hit]:
        if HOME.name not in self._private or not ("/" in text or "\\" in text or "-" in text):
            return []
        hits = [Hit(*found, HOME) for found in privacy.homes(text)]
        for hit in hits:
            if hit.secret not in names and len(names) < _MOST_NAMES:
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

    # Who the session's user is

    def _names(self, meta: Meta) -> set[str]:
        names = self._sessions.get(meta.session)
        if names is None:
            names = self._sessions[meta.session] = set(self._login)
            if isinstance(meta.origin, str):
                self._homes(meta.origin, names)
            if len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return names


@lru_cache(maxsize=8)
def _scanner(own: tuple[Rule, ...], off: frozenset[str]) -> Scanner:
    """Compile the rules that are on; what was compiled serves every redactor of the same rules."""
    rules = [rule for rule in all_rules(own) if rule.name not in off]
    return Scanner(rules, with_assignments=ASSIGNMENT.name not in off)


def _beside_placeholders(hits: list[Hit], text: str) -> list[Hit]:
    """Drop hits that overlap what stands for a secret already."""
    taken = [found.span() for found in PLACEHOLDER.finditer(text)] if "[" in text else []
    if not taken:
        return hits
    ends = [end for _, end in taken]
    kept: list[Hit] = []
    for hit in hits:
        at = bisect_right(ends, hit.start)  # the first that ends behind the hit's start
        if at == len(taken) or taken[at][0] >= hit.end:
            kept.append(hit)
    return kept


_PRIVATE = frozenset(rule.name for rule in privacy.PRIVACY_RULES)


def _rank(hit: Hit) -> tuple[bool, bool, int]:
    """Order hits of secrets that overlap: a vendor's rule says most, an assignment least; then the longer."""
    return not hit.rule.leads, hit.rule is ASSIGNMENT, hit.start - hit.end


def _apart(hits: list[Hit], text: str) -> list[Hit]:
    """Make one of hits that overlap: secrets together, private names only where no secret is."""
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
