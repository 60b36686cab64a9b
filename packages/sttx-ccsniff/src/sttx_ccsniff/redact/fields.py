"""Decides under which name a value of a structured input stands, to judge it as in a line `name: value`.

That is `Cookie` in `{"headers": [{"name": "Cookie", "value": "x"}]}`, and `password` in
`{"password": {"value": "x"}}`. Judges no values.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from sttx_ccsniff.redact.names import is_secret_name, last_word, name_kind

_MAX_NAME = 80
_MAX_KNOWN = 24  # characters of a key that is remembered
_MAX_KEYS = 1024
_MAX_ENTRY = 12  # keys
_LETTERS = re.compile(r"[A-Za-z_-]+")
# Entries that hold a name and its value, as in `{"name": "DB_PASSWORD", "value": "x"}`.
_NAMES = ("name", "key", "parameterkey", "param", "parameter", "field", "header", "variable", "option", "id")
_VALUES = frozenset(("value", "parametervalue", "val", "default"))
_VALUE_KEYS = frozenset((*_VALUES, "Value", "VALUE", "ParameterValue", "parameterValue", "Val", "Default"))
_OWN = frozenset(
    ("value", "val", "current", "new", "old", "plain", "plaintext", "raw", "data", "text", "s", "string")
)
"""Last words of keys below a secret's name whose value is the secret: `{"password": {"value": "x"}}`."""
_HARMLESS_WORDS = """
name names user username login email mail owner account type kind id ids uuid title label description
about documentation summary regex comment note help hint message error reason status state format pattern
placeholder example examples provider region zone profile host hostname port url uri path file files
filename dir folder domain scope scopes role version date time at on created updated modified expires
expiry expiration age count size length algorithm method source ref key required enum hash checksum
digest fingerprint
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
CHOSEN = ("pass", "pw", "secret", "cred", "cookie", "authorization", 'auth"', "psk", "mdp")
"""Parts of names in Latin letters whose values need not be random."""
_COOKIES = frozenset(("cookie: ", "cookies: ", "set-cookie: "))
_ATTRIBUTES = frozenset(("path", "domain", "expires", "samesite", "url", "partitionkey", "sourcescheme"))
_USERS = frozenset(("user", "username", "login", "email", "account", "uid", "host"))


class Field(NamedTuple):
    """Under which name a value stands.

    Attributes:
        name: The name, if it is a secret's; otherwise empty.
        start: The part in front of the value on a line with the name, if a rule may start there.
        is_unsure: Whether other things than secrets may stand there too: the name is that of a dict around
            the value, or the value is in a text.
    """

    name: str = ""
    start: str = ""
    is_unsure: bool = False


NO_FIELD = Field()
IN_TEXT = Field(is_unsure=True)
"""The field of a whole text that is a JSON document."""


class Fields:
    """Finds the fields of the values in a dict.

    Args:
        starts: Returns whether a rule may start in a text.
    """

    def __init__(self, starts: Callable[[str], bool]) -> None:
        self._starts = starts
        self._known: dict[str, Field] = {}  # by frequent keys, none of which can be a token

    def of(self, entry: dict[Any, Any], outer: Field) -> Callable[[Any], Field]:
        """Return a function that returns the field of each key.

        Args:
            entry: The dict.
            outer: The field of the dict itself.
        """
        name = _entry_name(entry)
        if name is None and not (outer.name or outer.start) and "pass" not in entry:
            return self._plain_in_text if outer.is_unsure else self.plain
        has_user = not _USERS.isdisjoint(entry)

        def field(key: Any) -> Field:
            found = self._field(key, name, outer, has_user=has_user)
            return found._replace(is_unsure=True) if outer.is_unsure else found

        return field

    def _plain_in_text(self, key: Any) -> Field:
        field = self.plain(key)
        return IN_TEXT if field is NO_FIELD else field._replace(is_unsure=True)

    def plain(self, key: Any) -> Field:
        """Return the field of a key that stands for itself."""
        if not isinstance(key, str) or len(key) > _MAX_NAME:
            return NO_FIELD
        field = self._known.get(key)
        if field is None:
            field = self._plain(key)
            if len(key) <= _MAX_KNOWN and len(self._known) < _MAX_KEYS and _LETTERS.fullmatch(key):
                self._known[key] = field
        return field

    def _plain(self, key: str) -> Field:
        if is_secret_name(key):
            return Field(key)
        return Field(start=f"{key}: ") if self._starts(key) else NO_FIELD

    def _field(self, key: Any, name: str | None, outer: Field, *, has_user: bool) -> Field:
        """Return the field of a key of an entry, in whose name or in whose outer field it may share."""
        if not isinstance(key, str):
            return outer if outer.name else NO_FIELD
        is_value = name is not None and key.lower() in _VALUES
        own = name if is_value and name is not None else key
        if has_user and name_kind(own) == "unsure":
            return Field(f"user_{own}", is_unsure=True)
        field = self.plain(own)
        if field.name:
            return field
        if outer.start.lower() in _COOKIES and (
            is_value or (name is None and own.lower() not in _ATTRIBUTES)
        ):
            return Field(start=f"cookie: {own}=")
        last = last_word(key)
        if outer.name and (is_value or last not in _HARMLESS):
            return Field(outer.name, field.start, is_unsure=not is_value and last not in _OWN)
        return field


def _entry_name(entry: dict[Any, Any]) -> str | None:
    """Return the name of an entry that holds a name and its value."""
    if _VALUE_KEYS.isdisjoint(entry) or len(entry) > _MAX_ENTRY:
        return None
    low = {key.lower(): value for key, value in entry.items() if isinstance(key, str)}
    found = (low[key] for key in _NAMES if isinstance(low.get(key), str))
    return next((name for name in found if len(name) <= _MAX_NAME), None)
