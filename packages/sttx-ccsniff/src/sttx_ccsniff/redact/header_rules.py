"""Rules for HTTP headers that carry a secret: `Authorization`, with any scheme, and cookies."""

import re

from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.values import is_code, is_random_secret, is_stand_in

_SCHEMES = re.compile(
    r"(?i)basic|bearer|digest|token|negotiate|apikey|none|null|undefined|required|failed|header\w*"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _is_credential(secret: str) -> bool:
    """Return whether what follows a scheme is a credential, not a word of a sentence or code."""
    if len(secret) < 6 or is_stand_in(secret) or is_code(secret) or (secret.isalpha() and len(secret) < 16):
        return False
    return (any(map(str.isdigit, secret)) or is_random_secret(secret)) and _SCHEMES.fullmatch(secret) is None


def _is_cookie(secret: str) -> bool:
    """Return whether the value of a cookie may identify a session."""
    if len(secret) < 8 or is_stand_in(secret) or is_code(secret, more=True):
        return False
    return is_random_secret(secret) or (any(map(str.isdigit, secret)) and not secret.isdigit())


def _has_cookie(secret: str) -> bool:
    """Return whether one of the values, of which only the first has lost its name, identifies a session."""
    first, *pairs = re.split(r"; ?", secret)
    return _is_cookie(first) or any(_is_cookie(pair.partition("=")[2]) for pair in pairs)


# Between a header's name and its value, also in `{"name": "Cookie", "value": "x"}`.
_IS = (
    r"[\"'`\]]{0,2}(?:[ ]{0,4}(?:[:=,]|=>)[ ]{0,4}|,\s{0,40}[\"']?(?i:val(?:ue)?)[\"']?[ ]{0,4}[:=][ ]{0,4})"
)
_COOKIE = r"[\w!#$%&*+.^|~-]{1,100}+"

AUTHORIZATION = Rule(
    name="authorization",
    regex=rf"(?i:(?:proxy-)?authorization){_IS}[\"'`\[]{{0,2}}"
    r"(?:[A-Za-z][\w-]{1,30}[ ]{1,2})?(?P<secret>(?:[\w-]{1,30}=\"[^\s\"]{0,1024}\",?[ ]?){1,16}"
    r"|[^\s\"'`,;<>{}]{6,4096}+(?:,[ ]?[^\s\"'`;<>{}]{1,400}+){0,12})",
    keywords=("authorization",),
    back=0,
    label="secret",
    valid=_is_credential,
    about="`Authorization` headers with any scheme",
    form="`Authorization:` + scheme + credentials (RFC 9110): `ApiKey`, `Digest` and others",
)
HEADER_RULES: tuple[Rule, ...] = (
    AUTHORIZATION,
    Rule(
        name="cookie",
        regex=rf"(?i:cookies?){_IS}[\"'`\[]{{0,2}}"
        rf"(?:{_COOKIE}=[^;\s\"'`]{{0,5}};[ ]?){{0,20}}"
        rf"{_COOKIE}=(?P<secret>[^;\s\"'`<>,]{{8,4096}}+(?:;[ ]?{_COOKIE}=[^;\s\"'`<>]{{0,1024}}+){{0,24}})",
        keywords=("cookie",),
        back=0,
        label="secret",
        valid=_has_cookie,
        about="Cookies in `Cookie` and `Set-Cookie` headers",
        form="`Cookie:` + name + `=` + value (RFC 6265), up to the last pair",
    ),
    Rule(
        name="session-cookie",
        regex=r"(?:PHPSESSID|SESSIONID|SessionId|sessionid|ASPXAUTH|connect\.sid|laravel_session|cf_clearance)"
        r"=(?P<secret>[A-Za-z0-9%._:~+/-]{12,4096}+)",
        keywords=(
            "phpsessid=",
            "sessionid=",
            "aspxauth=",
            "connect.sid=",
            "laravel_session=",
            "cf_clearance=",
        ),
        back=0,
        label="secret",
        valid=lambda secret: (
            any(map(str.isdigit, secret)) and not is_stand_in(secret) and _UUID.fullmatch(secret) is None
        ),
        about="Session cookies, by their name",
        form="`PHPSESSID=`, `JSESSIONID=`, `connect.sid=` and others",
    ),
)
