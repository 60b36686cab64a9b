r"""Finds private names: users in paths of home folders, their names elsewhere, e-mail and IP addresses.

Precision comes first: `/home/ubuntu` is not a person, `git@github.com` is not an address and `icon@2x.png` is
a file. A name that was seen in a path is replaced elsewhere only as a part of a path or identifier, or as the
owner of a file.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator

from sttx_ccsniff.redact.rule import Rule

HOME = Rule(
    name="home-path",
    regex="",
    label="user",
    about="The user's name in paths of home folders",
    form=r"`/home/`…, `/Users/`…, `C:\Users\`…, and Claude Code's folder names made from them",
)
NAME = Rule(
    name="user-name",
    regex="",
    label="user",
    about="That name elsewhere, and this machine's login",
    form="as a part of a path or identifier, or as a file's owner, never as a word in a sentence",
)
EMAIL = Rule(
    name="email",
    regex="",
    label="email",
    about="E-mail addresses",
    form="RFC 5322, unquoted; not roles such as `git@` and `info@`, nor example domains (RFC 2606)",
)
IP = Rule(
    name="ip-address",
    regex="",
    label="ip",
    about="IP addresses, if enabled",
    form="IPv4 and IPv6; not private, local or documentation ranges",
)
PRIVACY_RULES = (HOME, NAME, EMAIL, IP)

_USER = r"(?P<user>\w[\w.-]{0,31}(?<![.-]))"
_POSIX = re.compile(
    rf"(?:(?<![\w.~*\-\]}}])|(?<=/var)|(?<=/mnt)|(?<=/[a-z]))/(?:home|Users)/{_USER}(?![\w<>$\{{%@(])"
)
_WINDOWS = re.compile(
    r"(?<![A-Za-z])[A-Za-z](?i::\\{1,8}users)\\{1,8}"
    r"(?P<user>\w[\w.-]{0,31}(?:[ ][\w.-]{1,31}){0,2}(?=\\)|\w[\w.-]{0,31})"
)
_SLUG = re.compile(r"(?:(?<=/)|(?<=\\)|\A|(?<=[A-Z]-))-(?:home|Users)-(?P<user>\w{1,32})(?![^\W]|[<$])")
_HOMES = {
    f"{sign}{word}{sign}": regex
    for word in ("home", "Users")
    for sign, regex in (("/", _POSIX), ("-", _SLUG))
}
_AUTHORITY = re.compile(r"://[^\s/@]{0,250}\Z")
_MIN_NAME = 3
# What precedes a name, and what must follow it in each case.
_BEFORE_NAME = re.compile(
    r"(?P<part>[/\\~@]|(?i:owner|login|user)[=:] ?)\Z|(?P<join>[-_])\Z"
    r"|(?P<column>(?:\d|[\w\]])[ ]{1,4})\Z|(?P<word>(?<![A-Za-z0-9]))\Z"
)
_AFTER_NAME = {
    "part": re.compile(r"(?![A-Za-z0-9])"),
    "join": re.compile(r"[-_/\\.@]"),
    "column": re.compile(
        r"[/\\@]| {1,8}[A-Za-z0-9_-]{1,32} {1,12}\d| {1,12}\d|-(?:laptop|mac|macbook|pc|desktop)\b"
    ),
    "word": re.compile(r"[/\\@]|-(?:laptop|mac|macbook|pc|desktop)\b"),
}
_GENERIC_NAMES = """
admin administrator agent all app appuser apps bar baz bin build builder builds circleci claude code coder
codespace container current dev developer dir docker ec2-user example files foo gitpod guest home host
hostname index jenkins jovyan linuxbrew local login me my name nobody node nonroot nextjs pi postgres project
projects public python root runner runneradmin sandbox service shared site someone something src staff sudo
system temp test tester testuser tmp ubuntu user username users vagrant vscode web work worker workspace www
www-data you your yourname youruser yourusername your_name your_username your-name your-username myuser
myname default defaultuser0 xxx abc user1 user2 alice bob
"""
_GENERIC = frozenset(_GENERIC_NAMES.split())
_LOCAL = re.compile(r"[A-Za-z0-9_%+](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?\Z")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}([A-Za-z]{2,24})(?![\w(]|\.\w)"
)
_ROLE_NAMES = """
git noreply no-reply donotreply do-not-reply hg svn user username you your-email email test tester info
support hello contact admin security sales team help foo bar
"""
_ROLES = frozenset(_ROLE_NAMES.split())
_EXAMPLES = re.compile(r"(?:.*\.)?(?:example\.\w+|test|invalid|localhost|example|local)$", re.IGNORECASE)
_ENDINGS = """
png jpg jpeg gif svg webp ico js jsx ts tsx mjs cjs json css scss less html htm map lock go txt yml yaml toml
py java kt cpp hpp exe dll zip tar gz tgz whl vue svelte service timer socket mount target
"""
_FILES = frozenset(_ENDINGS.split())
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-fA-F]{0,4}:)(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])")


def is_personal(name: str) -> bool:
    """Return whether the name of a home folder may be a person's name.

    >>> is_personal("ada"), is_personal("ubuntu")
    (True, False)
    """
    return len(name) > 1 and name.lower() not in _GENERIC and not name.isdigit()


def home_users(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and name of each user in a path of a home folder."""
    for word in ("home", "Users"):
        at = text.find(word)
        while at >= 0:
            regex = _HOMES.get(text[at - 1 : at + len(word) + 1]) if at else None
            match = regex.match(text, at - 1) if regex else None
            if match and is_personal(match["user"]):
                yield (*match.span("user"), match["user"])
            at = text.find(word, at + len(word))
    if ":\\" in text:
        for match in _WINDOWS.finditer(text):
            if is_personal(match["user"]):
                yield (*match.span("user"), match["user"])


def known_names(text: str, names: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each of these names in a path or identifier, or as a file's owner."""
    for name in names:
        if len(name) < _MIN_NAME:
            continue
        at = text.find(name)
        while at >= 0:
            end = at + len(name)
            before = _BEFORE_NAME.search(text, max(0, at - 10), at)
            if before and _AFTER_NAME[before.lastgroup or ""].match(text, end):
                yield at, end, name
            at = text.find(name, end)


def emails(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each e-mail address."""
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1) if local else None
        if local and domain and _is_address(local[0], domain) and not _in_url(text, local.start()):
            yield local.start(), domain.end(), text[local.start() : domain.end()]
        at = text.find("@", at + 1)


def _is_address(local: str, domain: re.Match[str]) -> bool:
    return (
        local.lower() not in _ROLES and domain[1].lower() not in _FILES and _EXAMPLES.match(domain[0]) is None
    )


def _in_url(text: str, at: int) -> bool:
    """Return whether a position is in the user and password of a URL, where an `@` precedes the host."""
    return _AUTHORITY.search(text, max(0, at - 256), at) is not None


def ip_addresses(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each public IP address."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                public = ipaddress.ip_address(match[0]).is_global
            except ValueError:
                continue
            if public:
                yield (*match.span(), match[0])
