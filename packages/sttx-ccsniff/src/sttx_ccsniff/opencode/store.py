"""Reads OpenCode's SQLite database, and never writes to it.

Based on the schema of OpenCode 1.2 to 1.4: `opencode.db` with the tables `session`, `message` and `part`,
whose column `data` is JSON. Sessions are read in the order of their start, each as its own origin; a session
with a parent is a sub-agent. The messages of a session are delivered whole and in order, each once it cannot
change any more: an answer that is complete, failed or followed by another answer, a prompt that is answered,
or any message that was not written to for a day. The first message that can still change, and all after it,
wait for a later run. So a place is the last delivered message of a session, and the next run reads the ones
after it.

No statement or transaction stays open between deliveries, so OpenCode can always clean up its journal.
"""

import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.opencode.message import Json, Message
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.read.splitter import MAX_LINE
from sttx_core.errors import SourceError
from sttx_core.foreign_files import open_regular
from sttx_core.os_errors import explain
from sttx_core.traces import Meta

HEADER = b"SQLite format 3\0"
"""The first bytes of every SQLite database."""

_COLUMNS = {
    "session": ("id", "parent_id", "directory", "time_created"),
    "message": ("id", "session_id", "time_created", "time_updated", "data"),
    "part": ("id", "message_id", "time_updated", "data"),
}
_SETTLED_SECONDS = 10.0
"""Age after which a prompt counts as complete; its parts are written within milliseconds."""
_ABANDONED_SECONDS = 86_400.0
"""Age after which an unfinished answer counts as final: its process was killed."""
_BUSY_SECONDS = 5.0
_DEEPEST = 32
_START = (-(2**63), "")
_DATA = f"CASE WHEN length(data) <= {MAX_LINE} THEN CAST(data AS BLOB) END"


def is_database(path: Path) -> bool:
    """Return whether a file is a SQLite database, by its first bytes. Pipes are not read."""
    try:
        with open_regular(path) as file:
            return file.read(len(HEADER)) == HEADER
    except OSError:
        return False


def written(path: Path) -> tuple[int, int]:
    """Return the size and modification time (ns) of a database's journal; (0, 0) if it has none."""
    try:
        status = os.stat(f"{path}-wal")
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


class _Session(NamedTuple):
    id: str
    parent: str
    directory: str


_MOST = 2**53


class _Place(NamedTuple):
    """The last delivered message of a session, and the number of compactions up to it."""

    time: int
    message: str
    segment: int


class OpenCodeFeed:
    """The feed of OpenCode's database.

    Args:
        path: The database file.
        lenient: Whether an unreadable file is a warning, because it was found in a folder, not an error.
    """

    def __init__(self, path: Path, *, lenient: bool = False) -> None:
        self._path = os.path.abspath(path)
        self._lenient = lenient
        self.origin = self._path
        self.description = f"OpenCode's store {self._path}"

    def batches(self, shared: Shared, *, final: bool = True) -> Generator[Delivery, None, None]:
        """Yield one delivery for each new message that cannot change any more.

        Args:
            shared: What the feeds of the source share.
            final: Has no effect: an unfinished message always waits for a later run.
        """
        del final
        try:
            if self._claim(shared):
                yield from _Reader(self._path, shared).deliveries()
        except (OSError, sqlite3.Error, _Unreadable) as error:
            problem = f"cannot read {self._path!r}: {_in_words(error)}"
            if not self._lenient:
                raise SourceError(problem) from error
            shared.report.damaged("unreadable database")
            shared.report.warn(problem)

    def close(self) -> None:
        """Do nothing: reading polls `stop`, and nothing stays open."""

    def _claim(self, shared: Shared) -> bool:
        status = os.stat(self._path)
        if shared.files.setdefault((status.st_dev, status.st_ino), self._path) != self._path:
            shared.report.skip("file already read")
            return False
        return True


class _Unreadable(Exception):
    """The file is a database, but not one of OpenCode that can be read."""


class _Reader:
    """Reads a database from the saved places to its current end."""

    def __init__(self, path: str, shared: Shared) -> None:
        self._path, self._shared = path, shared
        self._report = shared.report
        self._now = time.time()
        self._unwatched = False
        self._database: sqlite3.Connection | None = None

    def deliveries(self) -> Generator[Delivery, None, None]:
        try:
            self._check_columns()
            if self._path not in self._shared.recognized:
                self._shared.recognized.add(self._path)
                self._report.formats["opencode"] += 1
            rows = self._rows("SELECT id, parent_id, directory FROM session ORDER BY time_created, id")
            for row in rows:
                yield from self._session(
                    _Session(*(value if isinstance(value, str) else "" for value in row))
                )
                if self._shared.stop.is_set():
                    return
            self._warn_of_newer_tables()
        finally:
            if self._database is not None:
                self._database.close()

    def _session(self, session: _Session) -> Generator[Delivery, None, None]:
        origin = f"{self._path}#{session.id}"
        place = message_place(self._shared.places.get(origin))
        after: tuple[Any, str] = _START if place is None else (place.time, place.message)
        segment = 0 if place is None else place.segment
        meta = self._meta(session, origin)
        while not self._shared.stop.is_set() and (row := self._next_message(session.id, after)):
            name, created, updated, data = row
            message, touched = self._message(name, data, updated)
            if not self._is_final(session.id, message, (created, name), touched):
                self._report.note("unfinished message left for a later run")
                return
            if after == (created, name):
                self._report.damaged("message whose id is not UTF-8")
                return
            after = (created, name)
            segment += message.cuts
            message_meta = _message_meta(meta, message, created, segment)
            traces = message.new_traces(message_meta, self._report, self._shared.seen)
            place = _Place(created if type(created) is int else 0, name, segment)
            self._shared.places[origin] = place
            yield Delivery(origin, traces, place)

    def _is_final(self, session: str, message: Message, after: tuple[Any, str], touched: float) -> bool:
        untouched = self._now - touched
        if message.is_user:
            return untouched > _SETTLED_SECONDS or self._next_message(session, after) is not None
        if message.info.get("role") != "assistant" or message.is_done or untouched > _ABANDONED_SECONDS:
            return True
        while row := self._next_message(session, after):
            after = (row[1], row[0])
            if self._decoded(row[3], quiet=True).get("role") == "assistant":
                return True
        return False

    # The database

    def _next_message(self, session: str, after: tuple[Any, str]) -> tuple[str, Any, Any, Any] | None:
        rows = self._rows(
            f"SELECT id, time_created, time_updated, {_DATA} FROM message WHERE session_id = ? "
            "AND typeof(id) = 'text' AND (time_created, id) > (?, ?) ORDER BY time_created, id LIMIT 1",
            session,
            *after,
        )
        return rows[0] if rows else None

    def _message(self, name: str, data: Any, updated: Any) -> tuple[Message, float]:
        """Return a message with its parts, and the Unix seconds when any of them was last written."""
        rows = self._rows(f"SELECT time_updated, {_DATA} FROM part WHERE message_id = ? ORDER BY id", name)
        info = self._decoded(data)
        parts = [part for _, one in rows if (part := self._decoded(one))]
        times = [when for when in (updated, *(when for when, _ in rows)) if type(when) in (int, float)]
        return Message(name, info, parts), max(times, default=0) / 1000

    def _decoded(self, data: Any, *, quiet: bool = False) -> Json:
        """Return the JSON object in a column; if there is none, count that and return an empty one."""
        if not isinstance(data, bytes):
            values, problem = [], f"row without data, or with over {MAX_LINE} bytes"
        else:
            values, problem = decode_line(data, self._report.noted)
        value = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
        if not quiet:
            self._report.records += 1
            self._report.bytes_read += len(data) if isinstance(data, bytes) else 0
            if problem or not value:
                self._report.damaged(problem or "not an object")
        return value

    def _meta(self, session: _Session, origin: str) -> Meta:
        """Return the `Meta` of a session; one with a parent is a sub-agent of its outermost ancestor."""
        root, known = session, {session.id}
        while root.parent and root.parent not in known and len(known) < _DEEPEST:
            known.add(root.parent)
            rows = self._rows("SELECT id, parent_id, directory FROM session WHERE id = ?", root.parent)
            above = (
                [value if isinstance(value, str) else "" for value in rows[0]]
                if rows
                else [root.parent, "", ""]
            )
            root = _Session(*above)
        return Meta(
            session=root.id,
            project=project_of(session.directory, ""),
            origin=origin,
            subagent="" if root.id == session.id else session.id,
            parent="" if root.id == session.id else session.parent,
        )

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection().execute(query, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        """Open the database for reading; open it again once another program writes to it.

        A database that no program has open is read as immutable, because SQLite would leave files next to it.
        """
        journal = os.path.exists(f"{self._path}-wal")
        if self._database is not None:
            if not (self._unwatched and journal):
                return self._database
            self._database.close()
        with open_regular(self._path) as file:
            head = file.read(20)
        self._unwatched = head[18:19] == b"\2" and not journal
        how = "immutable=1" if self._unwatched else "mode=ro"
        uri = f"file:{quote(self._path)}?{how}"
        self._database = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        self._database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return self._database

    def _check_columns(self) -> None:
        for table, wanted in _COLUMNS.items():
            columns = {row[1] for row in self._rows(f"PRAGMA table_info({table})")}
            if not columns:
                raise _Unreadable(f"it is a database, but not OpenCode's: it has no table {table!r}")
            if missing := [column for column in wanted if column not in columns]:
                names = ", ".join(map(repr, missing))
                raise _Unreadable(f"its table {table!r} has no {names}: another version of OpenCode wrote it")

    def _warn_of_newer_tables(self) -> None:
        """Warn of sessions of OpenCode 2, whose messages are in another table, which is not read."""
        if not self._rows("PRAGMA table_info(session_message)"):
            return
        ((count,),) = self._rows(
            "SELECT count(*) FROM session WHERE id IN (SELECT session_id FROM session_message) "
            "AND id NOT IN (SELECT session_id FROM message)"
        )
        if count:
            self._report.warn(
                f"{self._path!r} has {count} session{'s' if count > 1 else ''} in the form of OpenCode 2, "
                "which is not read"
            )


def _message_meta(meta: Meta, message: Message, created: Any, segment: int) -> Meta:
    return Meta(
        session=meta.session,
        project=meta.project,
        time=created / 1000 if type(created) in (int, float) else 0.0,
        uid=message.id,
        origin=meta.origin,
        subagent=meta.subagent,
        parent=meta.parent,
        segment=segment,
    )


def message_place(saved: Any) -> _Place | None:
    """Return a saved place as one of this feed; None if it is another feed's place or missing."""
    match saved:
        case [when, str(message), segment] if type(when) is int and type(segment) is int:
            if abs(when) <= _MOST and 0 <= segment <= _MOST:
                return _Place(when, message, segment)
    return None


def _in_words(error: Exception) -> str:
    if isinstance(error, sqlite3.Error) and "locked" in str(error):
        return "another program keeps it locked; try again when that program is done"
    return explain(error)
