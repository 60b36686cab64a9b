"""Distinguishes files that hold an agent's sessions from other data, by their content."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.follow.folders import is_session_file
from sttx_ccsniff.opencode.store import is_database
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.read.foreign import ForeignParser
from sttx_ccsniff.read.formats import FORMATS
from sttx_ccsniff.read.open import first_bytes

_PREFIX_BYTES = 2**20
_HEAD_BYTES = 2**12
_MOST_OBJECTS = 100


def holds_sessions(path: Path) -> bool:
    """Return whether a file holds sessions: a database, an export, or lines with a record.

    The file must have the name of a session file (`is_session_file`). At most 100 objects in its first 1 MiB
    are read, up to the first that is a record or plain data.
    """
    if not is_session_file(path):
        return False
    if is_database(path):
        return True
    head = first_bytes(path, _PREFIX_BYTES)
    if any(format.begins(head[:_HEAD_BYTES]) for format in FORMATS):
        return True
    objects = (
        value
        for line in head.splitlines()
        for value in decode_line(line, Counter())[0]
        if isinstance(value, dict)
    )
    for value in islice(objects, _MOST_OBJECTS):
        if _is_record(value):
            return True
        if _is_data(value):
            return False
    return False


def _is_data(value: dict[str, Any]) -> bool:
    return isinstance(value.get("text"), str) or isinstance(value.get("values"), list)


def _is_record(value: dict[str, Any]) -> bool:
    """Return whether a JSON object is a record, not plain data.

    Claude Code's format accepts most objects with a type, and objects of agents without an adapter are only
    guessed. So an object with `text` or a list `values` is plain data, unless another format recognizes it.
    """
    is_data = _is_data(value)
    return any(
        format.recognizes(value)
        for format in FORMATS
        if not (is_data and format.parser in (SessionParser, ForeignParser))
    )
