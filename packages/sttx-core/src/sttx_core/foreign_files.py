"""Files that others made: only regular files of bounded size are read. Knows nothing of what is in them.

What a person is handed may hold a pipe that never answers, a device that never ends, a file that fills the
memory, or JSON that is nested until the parser fails.
"""

import errno
import json
import os
import reprlib
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlong = 30


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading; never a pipe, a device or a socket, where reading could block or never end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    handle = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise not_regular(path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def is_regular(path: Path) -> bool:
    """Return whether there is a regular file at a path, or a link to one; False if there is nothing.

    Raises:
        OSError: something else is there, or nobody can tell.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise OSError(errno.ENOENT, "it is a link to nothing: remove it", str(path)) from None
        return False
    if not stat.S_ISREG(mode):
        raise not_regular(path)
    return True


def not_regular(path: str | os.PathLike[str]) -> OSError:
    """Return the error for what is not a regular file: a folder, a pipe, a device or a socket."""
    reason = "it is a folder" if Path(path).is_dir() else "it is a pipe, a device or a socket"
    return OSError(errno.EINVAL, f"{reason}, not a file: give a file", str(path))


def read_at_most(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the bytes of a regular file that has at most ``limit`` of them.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes: check what it is", str(path))
    return data


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: it is not JSON, or nested too deep.

    >>> parse_json(b"[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deep
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def shown(value: object) -> str:
    """Return a foreign value for a message: on one line, shortened, and nested as little as needed.

    >>> shown("x" * 1000), shown([[[[[[[[[1]]]]]]]]])
    ("'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'", '[[[[[[[...]]]]]]]')
    """
    return _short.repr(value)
