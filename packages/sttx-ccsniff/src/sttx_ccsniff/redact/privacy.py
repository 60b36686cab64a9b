r"""Finds what tells who somebody is: users in home folders' paths, their names, e-mail and IP addresses.

Precision first: `/home/ubuntu` is nobody, `git@github.com` no address, `icon@2x.png` a file; and a name that
was seen in a path is taken out elsewhere only where it stands as a part of a path or an identifier, or owns a
file.
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
    form=r"`/home/`…, `/Users/`…, `C:\Users\`…, and Claude Code's folder names made of them",
)
NAME = Rule(
    name="user-name",
    regex="",
    label="user",
    about="That name elsewhere, and this machine's login",
    form="as a part of a path or identifier, or as a file's owner, never as a word",
)
EMAIL = Rule(
    name="email",
    regex="",
    label="email",
    about="E-mail addresses",
    form="RFC 5322, unquoted; not `git@`, `info@` and other roles, nor domains for examples (RFC 2606)",
)
IP = Rule(
    name="ip-address",
    regex="",
    label="ip",
    about="IP addresses, if asked for",
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
_HOMES = (("/home/", _POSIX), ("/Users/", _POSIX), ("-home-", _SLUG), ("-Users-", _SLUG))
_AUTHORITY = re.compile(r"://[^\s/@]{0,250}\Z")
_SHORTEST_NAME = 3
# What stands before a name, and what must then stand behind it.
_NAMED_BEFORE = re.compile(
    r"(?P<part>[/\\~@]|(?i:owner|login|user)[=:] ?)\Z|(?P<join>[-_])\Z"
    r"|(?P<column>(?:\d|[\w\]])[ ]{1,4})\Z|(?P<word>(?<![A-Za-z0-9]))\Z"
)
_NAMED_AFTER = {
    "part": re.compile(r"(?![A-Za-z0-9])"),
    "join": re.compile(r"[-_/\\.@]"),
    "column": re.compile(
        r"[/\\@]| {1,8}[A-Za-z0-9_-]{1,32} {1,12}\d| {1,12}\d|-(?:laptop|mac|macbook|pc|desktop)\b"
    ),
    "word": re.compile(r"[/\\@]|-(?:laptop|mac|macbook|pc|desktop)\b"),
}
_NOBODIES = """
admin administrator agent all app appuser apps bar baz bin build builder builds circleci claude code coder
codespace container current dev developer dir docker ec2-user example files foo gitpod guest home host
hostname index jenkins jovyan linuxbrew local login me my name nobody node nonroot nextjs pi postgres project
projects public python root runner runneradmin sandbox service shared site someone something src staff sudo
system temp test tester testuser tmp ubuntu user username users vagrant vscode web work worker workspace www
www-data you your yourname youruser yourusername your_name your_username your-name your-username myuser
myname default defaultuser0 xxx abc user1 user2 alice bob
"""
_NOBODY = frozenset(_NOBODIES.split())
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


def is_somebody(name: str) -> bool:
    """Say whether a home folder's name may be a person's.

    >>> is_somebody("ada"), is_somebody("ubuntu")
    (True, False)
    """
    return len(name) > 1 and name.lower() not in _NOBODY and not name.isdigit()


def homes(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and the name of each user in a home folder's path."""
    for word, pattern in _HOMES:
        at = text.find(word)
        while at >= 0:
            found = pattern.match(text, at)
            if found and is_somebody(found["user"]):
                yield (*found.span("user"), found["user"])
            at = text.find(word, at + len(word))
    if ":\\" in text:
        for found in _WINDOWS.finditer(text):
            if is_somebody(found["user"]):
                yield (*found.span("user"), found["user"])


def named(text: str, names: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Yield where one of these names is a part of a path or identifier, or a file's owner."""
    for name in names:
        if len(name) < _SHORTEST_NAME:
            continue
        at = text.find(name)
        while at >= 0:
            end = at + len(name)
            before = _NAMED_BEFORE.search(text, max(0, at - 10), at)
            if before and _NAMED_AFTER[before.lastgroup or ""].match(text, end):
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
    """Say whether a place is within a URL's user and password, where an `@` begins the host."""
    return _AUTHORITY.search(text, max(0, at - 256), at) is not None


def addresses(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each public IP address."""
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text):
            try:
                public = ipaddress.ip_address(found[0]).is_global
            except ValueError:
                continue
            if public:
                yield (*found.span(), found[0])
