"""The user's changes to the rules, read from a TOML file.

```toml
ip_addresses = true

[[rule]]
name = "acme-key"
regex = 'acme_[a-z0-9]{24}'
keywords = ["acme_"]

[allow]
values = ["AKIAQ7EXAMPLEISPUBLIC"]
regexes = ['^ghp_0+']

[disable]
rules = ["email"]
```
"""

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sttx_ccsniff.redact.generic_rules import ASSIGNMENT, COMMAND, FIELD, GENERIC_RULES
from sttx_ccsniff.redact.hash_rules import HASH_RULES
from sttx_ccsniff.redact.header_rules import HEADER_RULES
from sttx_ccsniff.redact.pipe_rules import PIPE_RULES
from sttx_ccsniff.redact.privacy import PRIVACY_RULES
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.scanner import vendor_rules
from sttx_ccsniff.redact.statements import statement_rules
from sttx_core.errors import UsageError
from sttx_core.os_errors import explain

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


@dataclass(frozen=True, kw_only=True)
class RedactionConfig:
    """Changes to the default rules.

    Attributes:
        rules: Additional rules.
        allow_values: Exactly these strings are never redacted.
        allow_regexes: Strings in which one of these matches are never redacted.
        disable: Names of rules that are off.
        ip_addresses: Whether public IP addresses are redacted.
    """

    rules: tuple[Rule, ...] = ()
    allow_values: frozenset[str] = frozenset()
    allow_regexes: tuple[str, ...] = ()
    disable: frozenset[str] = frozenset()
    ip_addresses: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work or has no effect."""
        known = [rule.name for rule in described_rules()]
        for rule in self.rules:
            if not _NAME.fullmatch(rule.name):
                raise UsageError(
                    f"rule {rule.name!r}: use lower-case letters, digits and hyphens in its name"
                )
            if rule.name in known:
                raise UsageError(f"rule {rule.name!r}: a rule has this name already; choose another")
            known.append(rule.name)
            if _compiled(rule.regex, f"rule {rule.name!r}").search("") is not None:
                raise UsageError(
                    f"rule {rule.name!r}: its regex matches the empty text; make it need a character"
                )
        for regex in self.allow_regexes:
            _compiled(regex, "allow")
        for name in sorted(self.disable - set(known)):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; docs/redaction.md lists them"
            raise UsageError(f"disable: there is no rule {name!r}{hint}")


def described_rules() -> tuple[Rule, ...]:
    """Return every rule, also those without a regex, in the order of the documentation."""
    by_name = {rule.name: rule for rule in (*all_rules(()), COMMAND, ASSIGNMENT, FIELD, *PRIVACY_RULES)}
    return tuple(by_name.values())


def all_rules(own: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules that have a regex, the user's own first."""
    return (
        *own,
        *vendor_rules(),
        *GENERIC_RULES,
        *HEADER_RULES,
        *HASH_RULES,
        *PIPE_RULES,
        *statement_rules(),
    )


def read_config(path: str | Path) -> RedactionConfig:
    """Read the user's TOML file.

    Raises:
        UsageError: The file cannot be read, or something in it is unknown or invalid.
    """
    try:
        tables = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read redaction rules {str(path)!r}: {explain(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"redaction rules {str(path)!r} are not valid TOML: {error}") from error
    try:
        return _config(tables)
    except UsageError as error:
        raise UsageError(f"redaction rules {str(path)!r}: {error}") from error


def _config(tables: dict[str, Any]) -> RedactionConfig:
    _check_keys(tables, ("rule", "allow", "disable", "ip_addresses"), "the file")
    rules, allow, disable = tables.get("rule", []), tables.get("allow", {}), tables.get("disable", {})
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise UsageError("rule: write each rule as a table under [[rule]]")
    for name, table in (("allow", allow), ("disable", disable)):
        if not isinstance(table, dict):
            raise UsageError(f"{name}: write it as a table under [{name}]")
    _check_keys(allow, ("values", "regexes"), "[allow]")
    _check_keys(disable, ("rules",), "[disable]")
    ip_addresses = tables.get("ip_addresses", False)
    if not isinstance(ip_addresses, bool):
        raise UsageError(f"ip_addresses: give true or false, not {ip_addresses!r}")
    return RedactionConfig(
        rules=tuple(_rule(rule) for rule in rules),
        allow_values=frozenset(_strings(allow, "values", "[allow]")),
        allow_regexes=_strings(allow, "regexes", "[allow]"),
        disable=frozenset(_strings(disable, "rules", "[disable]")),
        ip_addresses=ip_addresses,
    )


def _rule(table: dict[str, Any]) -> Rule:
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(f"a [[rule]] has no name: give it one, such as {'acme-key'!r}")
    where = f"rule {name!r}"
    _check_keys(table, ("name", "regex", "keywords", "entropy"), where)
    regex, entropy = table.get("regex"), table.get("entropy", 0.0)
    if not isinstance(regex, str) or not regex:
        raise UsageError(f"{where}: it has no regex; give it one as a string")
    if isinstance(entropy, bool) or not isinstance(entropy, (int, float)):
        raise UsageError(f"{where}: entropy must be a number of bits per character, not {entropy!r}")
    keywords = tuple(word.lower() for word in _strings(table, "keywords", where))
    if not all(word.isascii() and word for word in keywords):
        raise UsageError(f"{where}: keywords must be ASCII and not empty")
    return Rule(name=name, regex=regex, keywords=keywords, entropy=float(entropy))


def _strings(table: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    values = table.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{where}: {name} must be a list of strings, not {values!r}")
    return tuple(values)


def _check_keys(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table.keys() - set(known):
        raise UsageError(f"{where}: {name!r} is unknown; use {', '.join(known)}")


def _compiled(regex: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{where}: {regex!r} is not a valid regex: {error}") from error
