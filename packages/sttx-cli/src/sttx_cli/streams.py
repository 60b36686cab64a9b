"""Standard output and error while a command runs: no text reaches them raw, and their readers may leave.

Everything that is written to `sys.stdout` or `sys.stderr`, by sttx, click, Python's warnings, loggers and
other libraries, goes through `visible`. Only `output.py` writes below that, what it has made safe itself. If
nobody reads a stream any more, what is written to it is dropped, and no exit code changes.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from sttx_cli.plain import visible

_LEFT = {errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.ESHUTDOWN}
_LEFT_WINDOWS = {errno.EINVAL}  # what Windows reports for a closed pipe
_NAMES = ("stdin", "stdout", "stderr")


class ReaderLeft(Exception):
    """Nobody reads standard output any more, so there is nothing left to do."""


class Stream:
    """A standard stream that outlives its reader: what is written afterwards is dropped.

    Args:
        below: Where text goes.
        optional: Whether no failure to write matters, as for messages. Otherwise a reader may leave, but a
            full disk is an error, once.

    Attributes:
        left: Whether text is dropped.
    """

    def __init__(self, below: TextIO, *, optional: bool) -> None:
        self._below, self._optional = below, optional
        self.left = False

    def write(self, text: str) -> int:
        """Write a text; characters that the stream's encoding lacks become escapes."""
        self._attempt(lambda: self._below.write(_encodable(text, self._below)))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes, or the text that they encode in UTF-8 where only text can be written."""
        raw = getattr(self._below, "buffer", None)
        self._attempt(lambda: self._below.write(data.decode()) if raw is None else raw.write(data))

    def flush(self) -> None:
        """Flush the stream."""
        self._attempt(self._below.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.left:
            return
        try:
            action()
        except OSError as error:
            if self._optional and isinstance(error, BlockingIOError):
                return  # the terminal is slow, and another program has made it non-blocking
            self.left = True
            fine = self._optional or _has_left(error, self._below)
            _discard(self._below)
            if not fine:
                raise


class Guard:
    """What all code sees as a standard stream: not a terminal, and each text is made visible.

    It has no `buffer`, so that only text is written to it.

    Args:
        stream: The stream that it guards.
        put: Writes text that was made safe.
    """

    errors = "backslashreplace"

    def __init__(self, stream: Stream, put: Callable[[str], object]) -> None:
        self.stream, self._put = stream, put

    @property
    def encoding(self) -> str:
        """The stream's encoding; click would go around one that has ASCII."""
        return "utf-8"

    def write(self, text: str) -> int:
        """Write a text with everything in it visible."""
        self._put(visible(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Return False: nobody should write colors or redraw lines here."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the number of the stream's file."""
        return self.stream.fileno()


@contextlib.contextmanager
def guarded_streams(put_message: Callable[[str], object]) -> Iterator[Stream]:
    """Guard both standard streams inside the block; yield standard output, to be flushed at the end.

    Args:
        put_message: Writes safe text to standard error, beside what else is shown there.
    """
    before = sys.stdout, sys.stderr
    out, err = Stream(sys.stdout, optional=False), Stream(sys.stderr, optional=True)
    sys.stdout, sys.stderr = cast(TextIO, Guard(out, out.write)), cast(TextIO, Guard(err, put_message))
    try:
        yield out
    finally:
        sys.stdout, sys.stderr = before
        err.flush()


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream below a guard, for text that is safe already; without a guard, the stream itself."""
    return cast(TextIO, stream.stream) if isinstance(stream, Guard) else stream


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed, before a file takes its number."""
    for number, name in enumerate(_NAMES):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened == number:
                os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, "r" if name == "stdin" else "w", encoding="utf-8"))


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _has_left(error: OSError, stream: TextIO) -> bool:
    """Return whether a failed write means that nobody reads: a closed pipe, a terminal that is gone."""
    gone = _LEFT | (_LEFT_WINDOWS if sys.platform == "win32" else set())
    return error.errno in gone or (error.errno == errno.EIO and (stream.isatty() or _is_device(stream)))


def _is_device(stream: TextIO) -> bool:
    """Return whether a stream is a device, such as a terminal, also one that is gone."""
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return False


def _discard(stream: TextIO) -> None:
    """Send to the null device what the stream still holds, or Python fails when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
