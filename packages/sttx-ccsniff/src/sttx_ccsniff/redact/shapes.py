"""Decides whether a name is a secret's name, and whether a value is a secret or only a stand-in or code.

`password = getpass()`, `"token": "your-token-here"`, `API_KEY=${KEY}` and `max_tokens: 4096` hold no secret.
"""

import re

from sttx_ccsniff.redact.rule import entropy

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PASSWORDS = frozenset(("passwort", "pwd", "passphrase", "passcode", "pass", "passw", "mdp"))
_SECRETS = frozenset(("secrets", "credential", "credentials"))
_KEY_WORDS = """
access account admin anon api app auth authorization client consumer crypto deploy deployment encryption
encrypt functions hmac jwt license licence master password private project role sas secret security server
service session shared sign signing storage subscription webhook write
"""
_KEYS = frozenset(_KEY_WORDS.split())
_SUFFIX_WORDS = """
base value string str plain plaintext raw base64 b64 current new old default dev prod production live test
staging main primary secondary
"""
_SUFFIXES = frozenset(_SUFFIX_WORDS.split())

_STAND_IN = re.compile(
    r"""(?xi)
    your|example|change.?me|replace|placeholder|insert|enter[_-]|dummy|redacted|sample|todo|fixme|lorem|foobar
    | (?-i:xxxx|XXXX) | ^x+$ | \*\*\* | \.\.\. | … | •• | <[^>]*> | \$\{ | \$\( | \{\{ | %\(
    | \#\{ | \$[a-z_] | %[a-z_]+% | ^\{[a-z_.]+\}$
    | process\.env | environ | getenv | secrets\. | vault: | !ref | env\.
    | ^(?:null|none|nil|undefined|true|false|empty|string|secret|password|token|test|mock|fake)+[\d_-]*$
    | ^(?:my|the|a|some|this|test|mock|fake|new|old|valid|invalid|wrong|bad|correct)[_-]?
      (?:super)?[_-]?(?:secret|password|passwd|token|key|api|pass|pw)
    """
)
_HEAD = 100  # characters of a value that show whether it is a stand-in
_CODE = re.compile(r"[!&*]?[A-Za-z_$][\w$]*(?:(?:\.|\?\.|::|->)[A-Za-z_$][\w$]*)*(?:[(\[{]|$)")
_CALL = re.compile(r"[!&*]?[A-Za-z_$][\w$.:>?-]*[(\[{]")
_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[\\/][\w.@ -]+(?:[\\/]|\.\w+$)|https?://")
_HEX = re.compile(r"(?=[0-9a-fA-F]*[a-fA-F])(?=[a-fA-F]*[0-9])[0-9a-fA-F]+")
_CAMEL = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}|[a-z]|[A-Z]")


def is_secret_name(name: str) -> bool:
    """Return whether a name is a secret's name, which its last words decide.

    >>> [is_secret_name(name) for name in ("DB_PASSWORD", "apiKey", "x-auth-token", "openai.api_key")]
    [True, True, True, True]
    >>> [is_secret_name(name) for name in ("max_tokens", "password_field", "key", "token_type", "tokenizer")]
    [False, False, False, False, False]
    """
    return _kind(name) != ""


def is_password_name(name: str) -> bool:
    """Return whether people choose the value themselves, so that it may be short and not random."""
    return _kind(name) == "password"


def _kind(name: str) -> str:
    words = [word.lower() for word in _WORDS.findall(name[-80:]) if not word.isdigit()]
    while len(words) > 1 and words[-1] in _SUFFIXES:
        words.pop()
    if not words:
        return ""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last.endswith(("password", "passwd", "passphrase")):
        return "password"
    if last in _PASSWORDS and (last != "pass" or before) and (last != "pwd" or name not in _FOLDERS):
        return "password"
    qualifier = before if last == "key" else last.removesuffix("key")
    if (
        last in _SECRETS
        or last.endswith(("secret", "token"))
        or (last.endswith("key") and qualifier in _KEYS)
    ):
        return "secret"
    return ""


_FOLDERS = frozenset(("PWD", "OLDPWD"))


def is_stand_in(value: str) -> bool:
    """Return whether a value is a stand-in for a real one: a template, a variable or an example.

    >>> [is_stand_in(value) for value in ("your-api-key-here", "${TOKEN}", "process.env.X", "xxxxxxxx")]
    [True, True, True, True]
    >>> is_stand_in("hunter2")
    False
    """
    head = value[:_HEAD]
    return len(set(value)) < 3 or _STAND_IN.search(head) is not None or _PATH.match(head) is not None


def is_password(value: str) -> bool:
    """Return whether the literal value of a password's name is a password.

    >>> [is_password(value) for value in ("hunter2", "s3cr3t!", "Password", "getpass()", "12345678")]
    [True, True, False, False, False]
    """
    if len(value) < 6 or is_stand_in(value) or (_CODE.match(value) and not value.isalnum()):
        return False
    if value.rstrip(";,:)").isalpha():
        return False  # `password: string;`
    letters = any(character.isalpha() for character in value)
    mixed = any(not character.isalpha() and character not in "_- .:,/" for character in value)
    return (letters and mixed) or _is_random(value)


def is_random_secret(value: str) -> bool:
    """Return whether a value is a generated secret: long and random.

    >>> is_random_secret("q7Zk2mX9vB4tR8wL"), is_random_secret("access_token_2_of_the_user")
    (True, False)
    """
    if len(value) < 12 or is_stand_in(value) or _CALL.match(value):
        return False
    return _is_random(value)


def _is_random(value: str) -> bool:
    """Return whether a value switches between letters, digits and cases more often than words do."""
    if len(value) < 12:
        return False
    if _HEX.fullmatch(value):
        return len(value) >= 16 and entropy(value) >= 2.5
    if entropy(value) < 3.0:
        return False
    pieces = len(_CAMEL.findall(value)) + len(re.findall(r"\d+", value))
    return pieces * 7 >= 2 * len(value) and (any(map(str.isdigit, value)) or pieces * 3 >= len(value))


def is_field_secret(value: str) -> bool:
    """Return whether a whole string that is the value of a secret's name is a secret: nearly every string is.

    >>> [is_field_secret(value) for value in ("hunter2", "string", "your-key", "settings.password")]
    [True, False, False, False]
    """
    if len(value) < 4 or is_stand_in(value) or any(map(str.isspace, value)):
        return False
    return is_password(value) or _is_random(value) or value.isalnum() or not _CODE.match(value)
