"""Files and folders of sessions: their history in the order of time, then what is written, as it is written.

No file is held open and nothing is kept of one but its place, so thousands of files cost a few hundred bytes
each. A file is opened when it changed, read on from its place, and closed.
"""

import os
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.follow.folders import in_time_order, is_session_file, session_files
from sttx_ccsniff.follow.session_end import Ends
from sttx_ccsniff.follow.watch import Changes
from sttx_ccsniff.opencode.store import OpenCodeFeed, is_database, written
from sttx_ccsniff.read.lines import line_place, matches_checkpoint, read_file
from sttx_core.errors import SourceError

_Signature = tuple[int, int, int, int, int]


class FileFeed:
    """One file, read once.

    Args:
        path: The file.
        lenient: A file of a folder: what is wrong with it is a warning, not an error.
    """

    def __init__(self, path: Path, *, lenient: bool = False) -> None:
        self._path = path
        self._lenient = lenient
        self.origin = os.path.abspath(path)
        self.description = f"file {self.origin}"
        self.refused = False  # by the system, for a reason that may pass without a change of the file

    def batches(self, shared: Shared, *, final: bool = True) -> Generator[Delivery, None, None]:
        """Yield what stands after the file's place.

        Args:
            shared: Of the source.
            final: The file is not looked at again: a last line that was cut short is counted.
        """
        try:
            status = self._path.stat()
            moved = claim((status.st_dev, status.st_ino), self.origin, shared)
            if moved is None:
                shared.report.skip("file already read")
                return
            yield from moved
            if is_database(self._path):
                yield from OpenCodeFeed(self._path, lenient=self._lenient).batches(shared, final=final)
            else:
                yield from read_file(self._path, self.origin, shared, final=final)
        except (OSError, EOFError, zlib.error) as error:
            problem = f"cannot read {self.origin!r}: {getattr(error, 'strerror', None) or error}"
            if not self._lenient:
                raise SourceError(problem) from error
            if problem not in shared.report.warnings:
                shared.report.damaged("unreadable file")
            shared.report.warn(problem)
            self.refused = _may_pass(error)

    def close(self) -> None:
        """Nothing is held: reading polls `stop`."""


class FolderFeed:
    """The session files under folders, the oldest first; then, where asked to, what is written.

    Args:
        roots: Folders or files; where they are followed, they need not be there yet.
        description: What is read, in words.
        follow: Go on after the history.
        ends: Says when a session that is followed has ended.
        polling: Look for changes instead of being notified.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        description: str,
        *,
        follow: bool = False,
        ends: Ends | None = None,
        polling: bool = False,
    ) -> None:
        self._roots = [Path(os.path.abspath(root)) for root in roots]
        self._follow = follow
        self._ends = ends or Ends()
        self._polling = polling
        self._known: dict[Path, _Signature] = {}
        self.description = description

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield the history, then what comes."""
        if not self._follow:
            yield from self._history(shared)
            return
        self._ends.resume(shared.open, self._roots)
        changes = Changes(self._roots, shared.stop, shared.report.warn, polling=self._polling)
        try:
            while not shared.stop.is_set():
                yield from self._next(shared, changes)
        finally:
            changes.close()

    def close(self) -> None:
        """Nothing is held: waiting polls `stop`."""

    def _files(self) -> list[Path]:
        return [path for root in self._roots for path in session_files(root)]

    def _history(self, shared: Shared) -> Generator[Delivery, None, None]:
        files = self._files()
        for path in in_time_order(files):
            if _is_old(path, shared):
                shared.report.skip("file from before the time asked for")
                continue
            yield from FileFeed(path, lenient=True).batches(shared)
            if shared.stop.is_set():
                return
        yield from self._gone(files, shared)

    def _next(self, shared: Shared, changes: Changes) -> Generator[Delivery, None, None]:
        """Wait for changes, and read them: everywhere where it is time to, or a folder changed."""
        changed = changes.wait()
        everywhere = changed is None or any(path.is_dir() for path in changed)
        if everywhere:
            started = time.thread_time()
            files = self._files()
            fresh = [path for path in files if self._signature(path) != self._known.get(path)]
            changes.scanned(time.thread_time() - started)
            found = in_time_order(fresh)
        else:
            # SQLite writes beside the database first.
            meant = {path.with_name(path.name.removesuffix("-wal")) for path in changed or ()}
            files, found = [], sorted(path for path in meant if self._is_read(path))
        for path in found:
            signature = self._signature(path)
            if signature is not None and signature != self._known.get(path):
                self._known[path] = signature
                changes.grew(path)
                yield from self._read(path, signature, shared)
            if shared.stop.is_set():
                return
        if everywhere:
            yield from self._gone(files, shared)
            shared.report.warn("the history is read: waiting for what is written")
        yield from self._ends.deliveries(shared)

    def _read(self, path: Path, signature: _Signature, shared: Shared) -> Generator[Delivery, None, None]:
        if _is_old(path, shared):
            return
        written = signature[2] / 1e9
        feed = FileFeed(path, lenient=True)
        for delivery in feed.batches(shared, final=False):
            self._ends.heard(delivery.traces, written)
            yield delivery
        if feed.refused:
            del self._known[path]

    def _signature(self, path: Path) -> _Signature | None:
        """What changes when a file is: inode, size, times, journal; None if it is not there."""
        try:
            status = path.stat()
        except OSError:
            return None
        journal = written(path) if path.suffix == ".db" else (0, 0)
        changed = max(status.st_mtime_ns, journal[1])
        return (status.st_ino, status.st_size, changed, status.st_ctime_ns, journal[0])

    def _is_read(self, path: Path) -> bool:
        return is_session_file(path) or path in self._roots

    def _gone(self, files: list[Path], shared: Shared) -> Iterator[Delivery]:
        """Forget the places of files that are no more, where the folder that they were in still is."""
        there = set(map(str, files))
        self._known = {path: known for path, known in self._known.items() if str(path) in there}
        for origin in [origin for origin in shared.places if origin not in there]:
            inside = any(Path(origin).is_relative_to(root) and root.exists() for root in self._roots)
            place = line_place(shared.places[origin])
            if inside and place and _is_gone(origin):
                del shared.places[origin]
                shared.recognised.discard(origin)
                if shared.files.get((place.device, place.inode)) == origin:
                    del shared.files[place.device, place.inode]
                yield Delivery(origin, [], None)


def _is_old(path: Path, shared: Shared) -> bool:
    """Whether nothing in a file can be as young as what is asked for."""
    try:
        return path.stat().st_mtime < shared.since and str(path) not in shared.places
    except OSError:
        return False


def claim(identity: tuple[int, int], origin: str, shared: Shared) -> list[Delivery] | None:
    """Make a file this origin's; None if it is read by another way to it already.

    A way that leads elsewhere by now does not count: then the file was renamed, or has another name left,
    and its place comes along, where it is one in this file still: a new file may have an old one's inode.
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
    if not _is_gone(owner):
        return [Delivery(origin, [], place)]
    del shared.places[owner]
    return [Delivery(origin, [], place), Delivery(owner, [], None)]


def _is_gone(path: str) -> bool:
    """Whether a file was deleted, and not only out of reach for now."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _may_pass(error: Exception) -> bool:
    """Whether a file may be read later though it stays as it is: no descriptors left, a network away."""
    lasting = (PermissionError, IsADirectoryError, FileNotFoundError)
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, lasting)


def file_identity(path: str) -> tuple[int, int] | None:
    """Return a file's device and inode, None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
