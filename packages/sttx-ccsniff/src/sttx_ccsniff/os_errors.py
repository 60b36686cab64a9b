"""Puts an operating system's error into words: what is wrong and what to do, without `[Errno 13]`."""

import errno
import os
import re

_READING = {
    errno.EACCES: "you may not read it: change its permissions, or leave it out",
    errno.EPERM: "you may not read it: change its permissions, or leave it out",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENOENT: "it is gone: check the path",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine: close some programs",
    errno.EIO: "the disk failed to read it: check the disk, or restore the file from a copy",
}
_WRITING = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EACCES: "you may not write there: change its permissions",
    errno.EPERM: "you may not write there: change its permissions",
    errno.EROFS: "the disk is read-only: make it writable",
    errno.ENOTDIR: "a part of its path is a file: move that file away",
    errno.EEXIST: "a file has that name: move it away",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n`)",
}
_NAMED = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE}


def why_not_read(error: Exception) -> str:
    """Return why a file or folder cannot be read, and what to do where that is known.

    >>> why_not_read(PermissionError(13, "Permission denied"))
    'you may not read it: change its permissions, or leave it out'
    """
    return _words(error, _READING)


def why_not_written(error: Exception) -> str:
    """Return why a file or folder cannot be written, and what to do where that is known.

    >>> why_not_written(OSError(28, "No space left on device"))
    'the disk is full: free some space'
    """
    return _words(error, _WRITING)


def error_from(text: str) -> OSError | None:
    """Return the disk or permission error that a program names in its output, None if it names none.

    >>> error_from("npm error code ENOSPC")
    OSError(28, 'No space left on device')
    """
    for name in re.findall(r"\bE[A-Z]{2,}\b", text):
        number = getattr(errno, name, None)
        if number in _NAMED:
            return OSError(number, os.strerror(number))
    return None


def _words(error: Exception, known: dict[int, str]) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in known:
        return known[number]
    return getattr(error, "strerror", None) or str(error)
