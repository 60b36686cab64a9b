"""Reads files and folders of sessions: the history in time order, then new lines as they are written.

No file stays open, and only its place is kept, so thousands of files cost a few hundred bytes each. A changed
file is opened, read from its place, and closed.
"""

import os
import stat
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.follow.folders import is_session_file, session_files
from sttx_ccsniff.follow.session_end import EndDetector
from sttx_ccsniff.follow.time_order import in_time_order
from sttx_ccsniff.follow.watch import FULL_SCAN, ChangeWatcher
from sttx_ccsniff.opencode.store import OpenCodeFeed, is_database, written
from sttx_ccsniff.read.lines import line_place, matches_checkpoint, read_file
from sttx_core.errors import SourceError
from sttx_core.os_errors import explain

_Signature = tuple[int, int, int, int, int]


class FileFeed:
    """One file, read once.

    Args:
        path: The file.
        lenient: A problem with the file is a warning, not an error. Set for the files of a folder.
    """

    def __init__(self, path: Path, *, lenient: bool = False) -> None:
        self._path = path
        self._lenient = lenient
        self.origin = os.path.abspath(path)
        self.description = f"file {self.origin}"
        self.retry = False  # reading failed for a reason that may pass although the file does not change

    def batches(self, shared: Shared, *, final: bool = True) -> Generator[Delivery, None, None]:
        """Yield what follows the file's place.

        Args:
            shared: State of the source.
            final: The file is not read again, so an incomplete last line is counted.
        """
        try:
            status = self._path.stat()
            if stat.S_ISDIR(status.st_mode):  # one that could not be listed: say why
                os.scandir(self._path).close()
            moved = claim((status.st_dev, status.st_ino), self.origin, shared)
            if moved is None:
                shared.report.skip("file already read")
                return
            yield from moved
            if is_database(self._path):
                yield from OpenCodeFeed(self._path, lenient=self._lenient).batches(shared, final=final)
            else:
                yield from read_file(self._path, self.origin, shared, final=final, only_regular=self._lenient)
        except (OSError, EOFError, zlib.error) as error:
            problem = f"cannot read {self.origin!r}: {explain(error)}"
            if not self._lenient:
                raise SourceError(problem) from error
            if problem not in shared.report.warnings:
                shared.report.damaged("unreadable file")
            shared.report.warn(problem)
            self.retry = _is_temporary(error)

    def close(self) -> None:
        """Nothing to release: reading polls `stop`."""


class FolderFeed:
    """The session files under folders, oldest first; with `follow`, also new lines.

    Args:
        roots: Folders or files; with `follow`, they need not exist yet.
        description: What is read, in words.
        follow: Continue after the history.
        ends: Detects when a followed session has ended.
        polling: Poll for changes instead of using notifications.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        description: str,
        *,
        follow: bool = False,
        ends: EndDetector | None = None,
        polling: bool = False,
    ) -> None:
        self._roots = [Path(os.path.abspath(root)) for root in roots]
        self._follow = follow
        self._ends = ends or EndDetector()
        self._polling = polling
        self._known: dict[Path, _Signature] = {}
        self.description = description

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield the history, then new lines."""
        if not self._follow:
            yield from self._history(shared)
            return
        self._ends.resume(shared.open, self._roots)
        changes = ChangeWatcher(self._roots, shared.stop, shared.report.warn, polling=self._polling)
        try:
            while not shared.stop.is_set():
                yield from self._next(shared, changes)
        finally:
            changes.close()

    def close(self) -> None:
        """Nothing to release: waiting polls `stop`."""

    def _files(self) -> list[Path]:
        return [path for root in self._roots for path in session_files(root)]

    def _history(self, shared: Shared) -> Generator[Delivery, None, None]:
        files = self._files()
        for path in in_time_order(files):
            if _is_too_old(path, shared):
                shared.report.skip("file from before the time asked for")
                continue
            yield from FileFeed(path, lenient=True).batches(shared)
            if shared.stop.is_set():
                return
        yield from self._forget_deleted(files, shared)

    def _next(self, shared: Shared, changes: ChangeWatcher) -> Generator[Delivery, None, None]:
        """Wait for changes and read them; scan everything when a scan is due or a folder changed."""
        changed = changes.wait()
        full_scan = changed is FULL_SCAN or any(os.path.isdir(path) for path in changed or ())
        if full_scan:
            started = time.thread_time()
            files = self._files()
            fresh = [path for path in files if self._signature(path) != self._known.get(path)]
            changes.note_scan(time.thread_time() - started)
            candidates = in_time_order(fresh)
        else:
            # SQLite writes into the journal beside the database first.
            paths = {path.with_name(path.name.removesuffix("-wal")) for path in changed or ()}
            files, candidates = [], sorted(path for path in paths if self._is_wanted(path))
        for path in candidates:
            signature = self._signature(path)
            if signature is not None and signature != self._known.get(path):
                self._known[path] = signature
                changes.note_growth(path)
                yield from self._read(path, signature, shared)
            if shared.stop.is_set():
                return
        if full_scan:
            yield from self._forget_deleted(files, shared)
            shared.report.warn("the history is read: waiting for new lines")
        yield from self._ends.deliveries(shared)

    def _read(self, path: Path, signature: _Signature, shared: Shared) -> Generator[Delivery, None, None]:
        if _is_too_old(path, shared):
            return
        modified = signature[2] / 1e9
        feed = FileFeed(path, lenient=True)
        for delivery in feed.batches(shared, final=False):
            self._ends.observe(delivery.traces, modified)
            yield delivery
        if feed.retry:
            del self._known[path]

    def _signature(self, path: Path) -> _Signature | None:
        """Return inode, size, times and journal, which change when a file does; None if it is gone.

        If the file's status cannot be read, the error's number takes their place: reading reports the error.
        """
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return (0, 0, 0, 0, error.errno or 0)
        journal = written(path) if path.suffix == ".db" else (0, 0)
        modified = max(status.st_mtime_ns, journal[1])
        return (status.st_ino, status.st_size, modified, status.st_ctime_ns, journal[0])

    def _is_wanted(self, path: Path) -> bool:
        return is_session_file(path) or path in self._roots

    def _forget_deleted(self, files: list[Path], shared: Shared) -> Iterator[Delivery]:
        """Forget the places of deleted files, if the folder that they were in still exists."""
        existing = set(map(str, files))
        self._known = {path: known for path, known in self._known.items() if str(path) in existing}
        for origin in [origin for origin in shared.places if origin not in existing]:
            inside = any(Path(origin).is_relative_to(root) and os.path.exists(root) for root in self._roots)
            place = line_place(shared.places[origin])
            if inside and place and _is_deleted(origin):
                del shared.places[origin]
                shared.recognized.discard(origin)
                if shared.files.get((place.device, place.inode)) == origin:
                    del shared.files[place.device, place.inode]
                yield Delivery(origin, [], None)


def _is_too_old(path: Path, shared: Shared) -> bool:
    """Return whether everything in a file is older than the time asked for."""
    try:
        return path.stat().st_mtime < shared.since and str(path) not in shared.places
    except OSError:
        return False


def claim(identity: tuple[int, int], origin: str, shared: Shared) -> list[Delivery] | None:
    """Register a file (device, inode) under an origin, so that it is read by one path only.

    If another path was registered for this inode and no longer leads to it, the file was renamed or has
    another name left. Its place moves to the new origin, provided that the content still matches: a new file
    may reuse the inode of a deleted one.

    Returns:
        Deliveries that record the move, usually none; None if the file is already read by another path.
    """
    owner = shared.files.setdefault(identity, origin)
    if owner == origin:
        return []
    if file_identity(owner) == identity:
        return None
    shared.files[identity] = origin
    place = line_place(shared.places.get(owner))
    if origin in shared.places or place is None or (place.device, place.inode) != identity:
        return []
    if not matches_checkpoint(Path(origin), place):
        return []
    shared.places[origin] = place
    if not _is_deleted(owner):
        return [Delivery(origin, [], place)]
    del shared.places[owner]
    return [Delivery(origin, [], place), Delivery(owner, [], None)]


def _is_deleted(path: str) -> bool:
    """Return whether a file was deleted, not just temporarily out of reach."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _is_temporary(error: Exception) -> bool:
    """Return whether reading may succeed later: no file descriptors left, a network that is down."""
    lasting = (PermissionError, IsADirectoryError, FileNotFoundError)
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, lasting)


def file_identity(path: str) -> tuple[int, int] | None:
    """Return a file's device and inode, None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
