"""Failures as sentences: instead of `[Errno 28]`, which file it is and what to do."""

import errno
import re

_ADVICE = {
    errno.ENOSPC: ("the disk is full", "free some space, or name a place on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or name a place on another disk"),
    errno.EACCES: ("permission is denied", "change the permissions, or name another place"),
    errno.EPERM: ("the system does not permit it", "change the permissions, or name another place"),
    errno.EROFS: ("the disk is read-only", "name a place that can be written"),
    errno.ENOENT: ("there is no such file or folder", "check the path"),
    errno.ENOTDIR: ("a part of the path is not a folder", "check the path"),
    errno.EISDIR: ("it is a folder, not a file", "name a file"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.EIO: ("the disk reports an error", "check the disk"),
}
_RAW = re.compile(r"\[Errno (\d+)\] ")


def os_sentence(error: OSError) -> str:
    """Write a system's error in words, with the file and what to do.

    >>> os_sentence(OSError(28, "No space left on device", "/x/run"))
    "the disk is full ('/x/run'): free some space, or name a place on another disk"
    """
    reason, advice = _ADVICE.get(error.errno or 0, (error.strerror or str(error), ""))
    files = " and ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    return "".join([reason, f" ({files})" if files else "", f": {advice}" if advice else ""])


def sentence(error: BaseException) -> str:
    """Write any error in words; if it quotes the system's error that caused it, put that into words too."""
    if isinstance(error, OSError):
        return os_sentence(error)
    text, cause = str(error), error.__cause__ or error.__context__
    if isinstance(cause, OSError) and _RAW.search(text):
        text = text.replace(str(cause), os_sentence(cause))
    return _RAW.sub("", text)


def is_full(error: BaseException | None) -> bool:
    """Return whether a full disk is the reason of an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
