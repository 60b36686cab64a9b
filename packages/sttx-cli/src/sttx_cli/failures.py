"""Failures as sentences: instead of `[Errno 28]`, which file it is and what to do."""

import errno
import re

from sttx_core.os_errors import reason_and_advice

_OF_A_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
_ERRNO = re.compile(r"\[Errno (\d+)\] ")


def os_sentence(error: OSError) -> str:
    """Write a system's error in words, with the file and what to do.

    >>> os_sentence(OSError(28, "No space left on device", "/x/run"))
    "the disk is full ('/x/run'): free some space, or name another place"
    """
    reason, advice = reason_and_advice(error)
    if error.errno in _OF_A_PLACE:
        advice += ", or name another place"
    files = " and ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    return "".join([reason, f" ({files})" if files else "", f": {advice}" if advice else ""])


def error_sentence(error: BaseException) -> str:
    """Write any error in words; if it quotes the system's error that caused it, put that into words too."""
    if isinstance(error, OSError):
        return os_sentence(error)
    text, cause = str(error), error.__cause__ or error.__context__
    if isinstance(cause, OSError) and _ERRNO.search(text):
        text = text.replace(str(cause), os_sentence(cause))
    return _ERRNO.sub("", text)
