"""Puts an operating system's error into words: what is wrong and what to do, without `[Errno 13]`."""

import errno
import os
import re

_KNOWN = {
    errno.EACCES: ("permission denied", "change its permissions"),
    errno.EPERM: ("permission denied", "change its permissions"),
    errno.ENOENT: ("there is no such file or folder", "check the path"),
    errno.ENOTDIR: ("a part of the path is a file", "check the path"),
    errno.EISDIR: ("it is a folder", "name a file"),
    errno.EEXIST: ("a file has that name", "move it away"),
    errno.ENAMETOOLONG: ("the name is too long", "shorten it"),
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EROFS: ("the disk is read-only", "make it writable"),
    errno.EIO: ("the disk reports an error", "check the disk"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
    errno.ENFILE: ("too many files are open on this machine", "close some programs"),
}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_IN_OUTPUT = {*_FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE}


def reason_and_advice(error: Exception) -> tuple[str, str]:
    """Return what is wrong, and what to do; "" where that is not known.

    >>> reason_and_advice(OSError(28, "No space left on device"))
    ('the disk is full', 'free some space')
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in _KNOWN:
        return _KNOWN[number]
    return getattr(error, "strerror", None) or str(error), ""


def explain(error: Exception, otherwise: str = "") -> str:
    """Return what is wrong and what to do, for the end of a message such as "cannot read 'x': …".

    Args:
        error: of the operating system, or any other: its own words are kept.
        otherwise: what to do where that is not known.

    >>> explain(PermissionError(13, "Permission denied"))
    'permission denied: change its permissions'
    """
    reason, advice = reason_and_advice(error)
    advice = advice or otherwise
    return f"{reason}: {advice}" if advice else reason


def disk_is_full(error: OSError) -> bool:
    """Return whether a full disk, or a used-up quota, is the reason of an error.

    >>> disk_is_full(OSError(28, "No space left on device"))
    True
    """
    return error.errno in _FULL


def error_in_output(text: str) -> OSError | None:
    """Return the disk or permission error that a program names in its output, None if it names none.

    >>> error_in_output("npm error code ENOSPC")
    OSError(28, 'No space left on device')
    """
    for name in re.findall(r"\bE[A-Z]{2,}\b", text):
        number = getattr(errno, name, None)
        if number in _IN_OUTPUT:
            return OSError(number, os.strerror(number))
    return None
