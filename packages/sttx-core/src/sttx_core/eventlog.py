"""Event logs: JSON lines, one file for each subsystem and day (UTC).

Each line is a single write to a file opened for appending, so lines stay whole when several threads and
processes log at once. Each line has `time` (UTC, ISO 8601), `subsystem` and `event`, then the event's own
fields. This file does not know who logs what.
"""

import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sttx_core.environment import log_dir
from sttx_core.errors import DataError, UsageError
from sttx_core.os_errors import explain
from sttx_core.own_files import make_private, make_private_folder, open_own
from sttx_core.text import encodable

_SUBSYSTEM = re.compile(r"[a-z0-9][a-z0-9_-]*")
_RESERVED_FIELDS = frozenset({"time", "subsystem", "event"})


class EventLog:
    """The log of one subsystem; safe to share between threads and across forks.

    Args:
        subsystem: Name of the subsystem, part of the file name: lower-case letters, digits, `-` and `_`.
        directory: Folder of the logs, created at the first event. By default the folder that `STTX_LOG_DIR`
            names; if it is unset, the log is off and `write` does nothing.

    Raises:
        UsageError: The subsystem's name has other characters.
    """

    def __init__(self, subsystem: str, directory: str | os.PathLike[str] | None = None):
        if not _SUBSYSTEM.fullmatch(subsystem):
            raise UsageError(f"subsystem {subsystem!r}: use lower-case letters, digits, '-' and '_'")
        self.subsystem = subsystem
        self.directory = log_dir() if directory is None else Path(directory)

    @property
    def path(self) -> Path | None:
        """The file of today, which may not exist yet; None if the log is off."""
        return self._path(datetime.now(UTC))

    def write(self, event: str, /, **fields: Any) -> None:
        """Append one event.

        Fields may hold JSON values, numpy arrays and numpy numbers; other values are written as their `str`.

        Raises:
            UsageError: A field is called `time`, `subsystem` or `event`.
            DataError: The line cannot be written.
        """
        now = datetime.now(UTC)
        path = self._path(now)
        if path is None:
            return
        if clash := _RESERVED_FIELDS & fields.keys():
            raise UsageError(f"field {min(clash)!r} is on every line already: choose another name")
        stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = {"time": stamp, "subsystem": self.subsystem, "event": event, **fields}
        try:
            _append(path, _encoded(line) + b"\n")
        except OSError as error:
            raise DataError(f"cannot write the event log {str(path)!r}: {explain(error)}") from error

    def _path(self, now: datetime) -> Path | None:
        return self.directory / f"{self.subsystem}-{now:%Y-%m-%d}.jsonl" if self.directory else None


def _append(path: Path, line: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        descriptor = open_own(path, flags)
    except FileNotFoundError:
        make_private_folder(path.parent)
        descriptor = open_own(path, flags)
    try:
        make_private(descriptor)
        written = os.write(descriptor, line)
        if written < len(line):
            _remove_torn(descriptor, written)
    finally:
        os.close(descriptor)
    if written < len(line):
        raise OSError(f"only {written} of {len(line)} bytes were written: is the disk full?")


def _remove_torn(descriptor: int, written: int) -> None:
    """Remove what was written of a line, unless another process has appended to it."""
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if os.fstat(descriptor).st_size == end:
        os.ftruncate(descriptor, end - written)


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY, default=str)
    except TypeError:  # orjson refuses lone surrogates, integers over 64 bits and keys that are not str
        return orjson.dumps(_plain(line))


def _plain(value: Any) -> Any:
    """Return an equivalent value that orjson accepts."""
    match value:
        case None | bool():
            return value
        case str():
            return encodable(value)
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {encodable(str(key)): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _ if hasattr(value, "tolist"):  # a numpy value, recognized without importing numpy
            return _plain(value.tolist())
        case _:
            return encodable(str(value))
