"""The cache folder belongs to one person: what others may write there is not trusted.

Windows keeps access lists instead of owners and modes, and its profile folders are private: nothing is
checked there.
"""

import os
import shlex
import stat
from pathlib import Path

_ELSEWHERE = "set STTX_CACHE_DIR to a folder of your own"


def others_may_write(path: Path) -> str:
    """Return why others may change a folder, or replace it from a folder above, and what to do; "" if not.

    What does not exist is fine, and above the folder one like /tmp, where others may only add what is new.

    >>> others_may_write(Path("/")), others_may_write(Path("/nowhere/at/all"))
    ('', '')
    """
    named, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    chain = dict.fromkeys([named, real, *named.parents, *real.parents])
    return next(filter(None, (_problem(each, above=each not in (named, real)) for each in chain)), "")


def is_private(found: os.stat_result) -> bool:
    """Return whether only this user and the owner of the system may write what was found."""
    return is_trusted(found) and not (os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def make_private_folders(folder: Path) -> None:
    """Make a folder, and those above it that do not exist, for this user alone, whatever the umask is.

    Raises:
        OSError: It cannot be made.
    """
    for each in (*reversed(folder.absolute().parents), folder.absolute()):
        if not os.path.lexists(each):
            each.mkdir(mode=0o700, exist_ok=True)


def is_trusted(found: os.stat_result) -> bool:
    """Return whether what was found belongs to this user or the owner of the system."""
    return os.name != "posix" or found.st_uid in (0, os.geteuid(), os.stat("/").st_uid)


def _problem(path: Path, *, above: bool) -> str:
    try:
        found = path.stat()
    except OSError:  # it does not exist, or cannot be used anyway
        return ""
    if not is_trusted(found):
        return f"{str(path)!r} belongs to another user: {_ELSEWHERE}"
    if is_private(found) or (above and found.st_mode & stat.S_ISVTX):
        return ""
    command = f"chmod go-w {shlex.quote(str(path))}"
    return f"others may write to {str(path)!r}: run `{command}`, or {_ELSEWHERE}"
